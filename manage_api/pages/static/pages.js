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
    time.append(utc);
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
document.querySelectorAll("[data-copy]").forEach(copyable);
