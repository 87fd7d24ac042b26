// The page of a processed video: every entry of FRAMES is {number, persons, picture: a data address or null}.
const byId = (id) => document.getElementById(id);
const EVERY = "all";
let shown = 0;
let timer = null;
let request = 0;

const tracks = [...new Set(FRAMES.flatMap((frame) => frame.persons.map((person) => person.track_id)))].sort((a, b) => a - b);
const rows = new Map(); // track -> one person or undefined per frame
for (const id of tracks) rows.set(id, FRAMES.map((frame) => frame.persons.find((person) => person.track_id === id)));

function option(select, value, text) {
  select.add(new Option(text, value));
}

function chosenTracks() {
  const chosen = byId("person").value;
  return chosen === EVERY ? tracks : [Number(chosen)];
}

function show(index) {
  shown = Math.min(Math.max(index, 0), FRAMES.length - 1);
  byId("frame").value = shown;
  byId("number").value = FRAMES.length ? `${FRAMES[shown].number} of ${FRAMES.at(-1).number}` : "no frames";
  byId("thresholdValue").value = Number(byId("threshold").value).toFixed(2);
  paint();
  plot();
  tabulate();
}

function paint() {
  const canvas = byId("picture");
  const frame = FRAMES[shown];
  const mine = ++request; // a picture that is decoded late must not cover a newer one
  const overlay = (context) => {
    const persons = frame.persons.filter((person) => chosenTracks().includes(person.track_id));
    drawPersons(context, persons, canvas.width / META.width, Number(byId("threshold").value));
    canvas.dataset.frame = frame.number;
  };
  const context = canvas.getContext("2d");
  if (!frame) return;
  if (!frame.picture) {
    context.clearRect(0, 0, canvas.width, canvas.height);
    overlay(context);
    return;
  }
  const image = new Image();
  image.onload = () => {
    if (mine !== request) return;
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    overlay(context);
  };
  image.src = frame.picture;
}

function plot() {
  const canvas = byId("plot");
  canvas.width = canvas.clientWidth * devicePixelRatio;
  canvas.height = canvas.clientHeight * devicePixelRatio;
  const context = canvas.getContext("2d");
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  context.scale(devicePixelRatio, devicePixelRatio);
  const style = getComputedStyle(document.body);
  const soft = style.getPropertyValue("--soft");
  const x = (index) => 34 + (index + 0.5) / FRAMES.length * (width - 40);
  const y = (score) => height - 8 - Math.min(Math.max(score, 0), 1) * (height - 16);
  context.fillStyle = soft;
  context.strokeStyle = style.getPropertyValue("--line");
  context.font = "11px system-ui, sans-serif";
  for (const score of [0, 0.5, 1]) {
    context.fillText(score.toFixed(1), 8, y(score) + 4);
    context.beginPath();
    context.moveTo(34, y(score));
    context.lineTo(width - 6, y(score));
    context.stroke();
  }
  const chosen = byId("keypoint").value;
  const score = (person) => chosen === EVERY
    ? person.keypoints.reduce((sum, point) => sum + point[2], 0) / person.keypoints.length
    : person.keypoints[Number(chosen)][2];
  for (const id of chosenTracks()) {
    context.strokeStyle = context.fillStyle = trackColor(id);
    context.lineWidth = 1.5;
    context.beginPath();
    rows.get(id).forEach((person, index) => {
      if (!person) return;
      if (rows.get(id)[index - 1]) context.lineTo(x(index), y(score(person)));
      else context.moveTo(x(index), y(score(person)));
      if (!rows.get(id)[index - 1] && !rows.get(id)[index + 1]) context.fillRect(x(index) - 1, y(score(person)) - 1, 3, 3);
    });
    context.stroke();
  }
  context.strokeStyle = soft;
  context.setLineDash([4, 3]);
  const threshold = y(Number(byId("threshold").value));
  context.beginPath();
  context.moveTo(34, threshold);
  context.lineTo(width - 6, threshold);
  context.stroke();
  context.setLineDash([]);
  context.strokeStyle = style.getPropertyValue("--ink");
  context.beginPath();
  context.moveTo(x(shown), 4);
  context.lineTo(x(shown), height - 4);
  context.stroke();
}

function tabulate() {
  const persons = FRAMES[shown] ? FRAMES[shown].persons : [];
  const person = persons.find((one) => chosenTracks().includes(one.track_id));
  fillNumbers(byId("numbers"), person, Number(byId("threshold").value));
}

function play(on) {
  clearInterval(timer);
  timer = on ? setInterval(() => show(shown + 1 < FRAMES.length ? shown + 1 : 0), 1000 / META.fps) : null;
  byId("play").textContent = on ? "Pause" : "Play";
  byId("play").setAttribute("aria-pressed", on);
}

document.title = META.title;
byId("title").textContent = META.title;
byId("picture").width = META.picture_width;
byId("picture").height = Math.max(1, Math.round(META.picture_width * META.height / META.width));
byId("frame").max = Math.max(FRAMES.length - 1, 0);
option(byId("person"), EVERY, "all");
for (const id of tracks) option(byId("person"), id, id);
option(byId("keypoint"), EVERY, "mean of all");
META.keypoints.forEach((name, k) => option(byId("keypoint"), k, name.replaceAll("_", " ")));
const without = FRAMES.filter((frame) => !frame.picture).length;
if (without) byId("note").textContent = `${without} of ${FRAMES.length} frames are kept without their picture, so that this page stays small.`;

byId("frame").addEventListener("input", () => { play(false); show(Number(byId("frame").value)); });
for (const id of ["threshold", "person", "keypoint"]) byId(id).addEventListener("input", () => show(shown));
byId("play").addEventListener("click", () => play(timer === null));
byId("back").addEventListener("click", () => { play(false); show(shown - 1); });
byId("forth").addEventListener("click", () => { play(false); show(shown + 1); });
byId("plot").addEventListener("click", (event) => {
  const place = (event.offsetX - 34) / (byId("plot").clientWidth - 40);
  play(false);
  show(Math.floor(place * FRAMES.length));
});
document.addEventListener("keydown", (event) => {
  if (["INPUT", "SELECT"].includes(event.target.tagName)) return;
  if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
    play(false);
    show(shown + (event.key === "ArrowRight" ? 1 : -1));
    event.preventDefault();
  }
});
addEventListener("resize", plot);
show(0);
