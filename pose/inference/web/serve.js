// The page of tools/serve.py: sends a file to /poses, or a camera's images to /camera, and shows what comes back.
const byId = (id) => document.getElementById(id);
const ALL = "all";
let current = null; // {file_name, image, width, height, persons, records} or {file_name, page, records}
let asked = 0;

function say(text, wrong = false) {
  byId("status").textContent = text;
  byId("status").className = wrong ? "wrong" : "";
}

const counted = (persons) => `${persons.length} ${persons.length === 1 ? "person" : "persons"}`;

async function send(file) {
  const mine = ++asked; // an answer to an older file must not replace a newer one
  stopCamera();
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
  if (!answer.page) {
    answer.image = new Image();
    answer.image.src = answer.picture;
    await answer.image.decode();
    if (mine !== asked) return;
  }
  say(answer.page ? answer.note : `${file.name}: ${counted(answer.persons)}. ${META.note}`);
  URL.revokeObjectURL(byId("video").src);
  byId("video").src = answer.page ? URL.createObjectURL(new Blob([answer.page], { type: "text/html" })) : "about:blank";
  current = answer;
  listPersons();
  show();
  document.body.dataset.shown = answer.file_name;
}

// A person is chosen by track where there are tracks, else by place in the list.
const nameOf = (person, index) => String(person.track_id ?? index + 1);

function listPersons() {
  const select = byId("person");
  const chosen = select.value;
  const names = (current.persons || []).map(nameOf);
  if ([...select.options].slice(1).map((option) => option.value).join() !== names.join() || !select.options.length) {
    select.replaceChildren(new Option(ALL, ALL), ...names.map((name) => new Option(name, name)));
    select.value = names.includes(chosen) ? chosen : ALL;
  }
}

function chosenPerson() {
  const persons = current.persons || [];
  return persons.find((person, index) => nameOf(person, index) === byId("person").value);
}

function show() {
  byId("thresholdValue").value = Number(byId("threshold").value).toFixed(2);
  if (!current) return;
  byId("result").hidden = false;
  const isVideo = Boolean(current.page);
  byId("still").hidden = byId("png").hidden = byId("thresholdValue").hidden = isVideo;
  byId("threshold").parentElement.hidden = byId("person").parentElement.hidden = isVideo;
  byId("json").hidden = !current.records;
  byId("video").hidden = !isVideo;
  if (!isVideo) paint(byId("picture"));
}

function paint(canvas) {
  const threshold = Number(byId("threshold").value);
  const person = chosenPerson();
  canvas.width = current.image.width;
  canvas.height = current.image.height;
  const context = canvas.getContext("2d");
  context.drawImage(current.image, 0, 0);
  drawPersons(context, current.persons, canvas.width / current.width, threshold, person);
  fillNumbers(byId("numbers"), person || current.persons[0], threshold);
}

function download(blob, suffix) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = current.file_name.replace(/\.[^.]*$/, "") + suffix;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const camera = new Camera(
  (image, answer, rate) => {
    current = { file_name: "camera.jpg", image, ...answer };
    listPersons();
    show();
    say(`Camera: ${counted(answer.persons)}, ${rate.toFixed(1)} images a second. ${META.note}`);
    document.body.dataset.shown = current.file_name;
  },
  (text) => { stopCamera(); say(text, true); },
);

function stopCamera() {
  camera.stop();
  byId("camera").textContent = "Use the camera";
  byId("camera").setAttribute("aria-pressed", false);
}

byId("camera").addEventListener("click", () => {
  if (byId("camera").getAttribute("aria-pressed") === "true") {
    stopCamera();
    say("The camera is off.");
    return;
  }
  asked++;
  byId("camera").textContent = "Stop the camera";
  byId("camera").setAttribute("aria-pressed", true);
  say("Waiting for the camera …");
  camera.start();
});
byId("sample").hidden = !META.sample;
byId("sample").addEventListener("click", async () => {
  const answer = await fetch("sample.jpg");
  send(new File([await answer.blob()], "street.jpg", { type: "image/jpeg" }));
});
byId("file").addEventListener("change", () => { if (byId("file").files.length) send(byId("file").files[0]); });
byId("threshold").addEventListener("input", show);
byId("person").addEventListener("input", show);
byId("picture").addEventListener("click", (event) => {
  const scale = current.width / byId("picture").clientWidth;
  const index = personAt(current.persons, event.offsetX * scale, event.offsetY * scale);
  byId("person").value = index === -1 ? ALL : nameOf(current.persons[index], index);
  show();
});
byId("json").addEventListener("click", () => {
  download(new Blob([JSON.stringify(current.records)], { type: "application/json" }), ".json");
});
byId("png").addEventListener("click", () => byId("picture").toBlob((blob) => download(blob, "_poses.png")));
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((one) => /^(image|video)\//.test(one.type));
  if (file) send(file);
});
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
