// The page of tools/serve.py: sends a file to /poses and shows what comes back.
const byId = (id) => document.getElementById(id);
let current = null; // the last answer: {file_name, width, height, persons, picture, records} or {file_name, page, records}
let asked = 0;

function say(text, wrong = false) {
  byId("status").textContent = text;
  byId("status").className = wrong ? "wrong" : "";
}

async function send(file) {
  const mine = ++asked; // an answer to an older file must not replace a newer one
  if (file.size > META.most_bytes) {
    say(`${file.name} is larger than ${Math.round(META.most_bytes / 1e6)} MB.`, true);
    return;
  }
  say(`Looking for persons in ${file.name} …`);
  const form = new FormData();
  form.append("file", file);
  let answer;
  try {
    const response = await fetch("poses", { method: "POST", body: form });
    answer = await response.json();
  } catch (error) {
    answer = { error: `no answer from the server (${error.message}); is it still running?` };
  }
  if (mine !== asked) return;
  if (answer.error) {
    say(answer.error, true);
    return;
  }
  current = answer;
  const persons = answer.records.length;
  say(answer.page ? answer.note : `${file.name}: ${persons} ${persons === 1 ? "person" : "persons"}. ${META.note}`);
  byId("result").hidden = false;
  byId("picture").hidden = byId("png").hidden = byId("threshold").parentElement.hidden = Boolean(answer.page);
  byId("thresholdValue").hidden = Boolean(answer.page);
  byId("video").hidden = !answer.page;
  URL.revokeObjectURL(byId("video").src);
  byId("video").src = answer.page ? URL.createObjectURL(new Blob([answer.page], { type: "text/html" })) : "about:blank";
  if (!answer.page) await paint();
  document.body.dataset.shown = answer.file_name;
}

async function paint() {
  byId("thresholdValue").value = Number(byId("threshold").value).toFixed(2);
  if (!current || current.page) return;
  const answer = current;
  const image = new Image();
  image.src = answer.picture;
  await image.decode();
  if (answer !== current) return;
  const canvas = byId("picture");
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  drawPersons(context, answer.persons, image.width / answer.width, Number(byId("threshold").value));
}

function download(blob, suffix) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = current.file_name.replace(/\.[^.]*$/, "") + suffix;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

byId("file").addEventListener("change", () => { if (byId("file").files.length) send(byId("file").files[0]); });
byId("threshold").addEventListener("input", paint);
byId("json").addEventListener("click", () => {
  download(new Blob([JSON.stringify(current.records)], { type: "application/json" }), ".json");
});
byId("png").addEventListener("click", () => byId("picture").toBlob((blob) => download(blob, "_poses.png")));
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
  });
}
byId("threshold").value = META.threshold;
byId("thresholdValue").value = Number(byId("threshold").value).toFixed(2);
say(META.note);
