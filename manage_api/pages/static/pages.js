// What is nice to have: each page works without it.

const numbers = new Intl.NumberFormat();
const times = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** Writes times and numbers in the reader's locale; the time of UTC stays beside. */
function localise(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([title])")) {
    time.title = time.textContent;
    time.textContent = times.format(new Date(time.dateTime));
    const utc = document.createElement("small");
    utc.className = "utc";
    utc.textContent = ` ${time.title}`;
    time.append(document.createElement("br"), utc);
  }
  for (const data of root.querySelectorAll("data[value]:not(.usd)")) {
    data.textContent = numbers.format(BigInt(data.value));
  }
}

/** A form that was sent is not sent again by a second click. */
function sendOnce(form) {
  form.addEventListener("submit", () => {
    for (const button of form.querySelectorAll("button")) setTimeout(() => { button.disabled = true; });
  });
  window.addEventListener("pageshow", () => {
    for (const button of form.querySelectorAll("button")) button.disabled = false;
  });
}

/** Puts a button behind each text that is there to be copied. */
function copyable(element) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "plain copy";
  button.textContent = "Copy";
  const text = element.textContent;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  element.after(button);
}

localise(document);
document.querySelectorAll("form[method=post]").forEach(sendOnce);
if (navigator.clipboard) document.querySelectorAll("[data-copy]").forEach(copyable); // by https, or on this machine

/** Replaces the rows of a list, while it is seen; a row that is new is marked. Tells whether the server answered. */
async function reload(table) {
  if (document.hidden) return true;
  const answer = await fetch(location.href, { headers: { "X-Reloads": "1" } });
  if (answer.redirected) location.reload(); // the session has ended
  if (!answer.ok || answer.redirected) return false;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const rows = page.querySelector("[data-live] tbody");
  if (!rows) return true;
  const known = new Set([...table.tBodies[0].rows].map((row) => row.id));
  const focused = table.tBodies[0].contains(document.activeElement) && document.activeElement.getAttribute("href");
  localise(rows);
  for (const row of rows.rows) if (!known.has(row.id)) row.className = "new";
  table.tBodies[0].replaceWith(rows);
  if (focused) table.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  return true;
}

/** Reloads a list every two seconds, or less often while the server does not answer. */
async function live(table) {
  for (let failures = 0; ;) {
    await new Promise((done) => { setTimeout(done, Math.min(2000 * 2 ** failures, 60000)); });
    try {
      failures = (await reload(table)) ? 0 : failures + 1;
    } catch {
      failures += 1; // the network: try again
    }
  }
}

/** A filter that is empty is left out of the address. */
function leaveOutEmpty(form) {
  form.addEventListener("formdata", ({ formData }) => {
    for (const [name, value] of [...formData]) if (value === "") formData.delete(name);
  });
}

document.querySelectorAll("[data-live]").forEach(live);
document.querySelectorAll("form[role=search]").forEach(leaveOutEmpty);

/** Looks again whether something has arrived, until that has come to its end. */
async function again(element) {
  let shown = element.innerHTML;
  for (let failures = 0; failures < 5;) {
    await new Promise((done) => { setTimeout(done, 2000); });
    if (document.hidden) continue;
    try {
      const answer = await fetch(element.dataset.again, { headers: { "X-Reloads": "1" } });
      if (!answer.ok || answer.redirected) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const found = page.getElementById(element.id);
      if (found.innerHTML !== shown) {
        shown = found.innerHTML;
        localise(found);
        element.replaceChildren(...found.childNodes);
      }
      if (!found.dataset.again) return;
    } catch {
      failures += 1; // the network: try again
    }
  }
}

document.querySelectorAll("[data-again]:not([data-again=''])").forEach(again);
