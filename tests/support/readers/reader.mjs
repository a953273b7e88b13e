// Reads batches of bodies from stdin as JavaScript reads them; see external.py for the frames.

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

// What one reader makes of a body: null where it rejects it, 0 where it finds no text.
function model(read) {
  try {
    const body = read();
    if (typeof body !== "object" || body === null) return null;
    return typeof body.model === "string" ? body.model : 0;
  } catch {
    return null;
  }
}

function readJson(body) {
  return [
    model(() => JSON.parse(strict.decode(body))),
    model(() => JSON.parse(body.toString("utf8"))),
    model(() => JSON.parse(new TextDecoder().decode(body))),
    model(() => ({ ...JSON.parse(body.toString("utf8")) })),
    model(() => Object.assign({}, JSON.parse(body.toString("utf8")))),
  ];
}

async function readForm(body, contentType) {
  try {
    const form = await new Response(body, { headers: { "content-type": contentType } }).formData();
    const found = [...form].filter(([name]) => name.toLowerCase().includes("model"));
    return [found.map(([name, value]) => [name, typeof value === "string" ? value : 0])];
  } catch {
    return [null];
  }
}

function* parts(batch) {
  for (let place = 0; place < batch.length; ) {
    const end = place + 4 + batch.readUInt32BE(place);
    yield batch.subarray(place + 4, end);
    place = end;
  }
}

let waiting = Buffer.alloc(0);
for await (const data of process.stdin) {
  waiting = Buffer.concat([waiting, data]);
  while (waiting.length >= 4 && waiting.length >= 4 + waiting.readUInt32BE(0)) {
    const end = 4 + waiting.readUInt32BE(0);
    const all = [...parts(waiting.subarray(4, end))];
    waiting = waiting.subarray(end);
    const readings = [];
    for (let index = 0; index < all.length; index += 2) {
      const contentType = all[index].toString("latin1");
      readings.push(process.argv[2] === "json" ? readJson(all[index + 1]) : await readForm(all[index + 1], contentType));
    }
    const answer = Buffer.from(JSON.stringify(readings));
    const size = Buffer.alloc(4);
    size.writeUInt32BE(answer.length);
    process.stdout.write(Buffer.concat([size, answer]));
  }
}
