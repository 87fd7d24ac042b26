// A picture or a camera in, a skeleton out: crop, network and drawing, all in the page.
const PADDING = 1.25; // of a box, as in training
const DRAWN_SCORE = 0.2; // where no calibration tells another
const element = (id) => document.getElementById(id);
const metadata = JSON.parse(element("metadata").textContent);
const [width, height] = metadata.input_size;
const calibration = metadata.calibration;
const threshold = calibration ? calibration.threshold : DRAWN_SCORE;
const canvas = element("canvas");
const context = canvas.getContext("2d");
const cropped = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });

async function unpacked(id) {
  const bytes = Uint8Array.from(atob(element(id).textContent), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

async function load() {
  const library = URL.createObjectURL(new Blob([await unpacked("library")], { type: "text/javascript" }));
  const ort = await import(library);
  ort.env.wasm.wasmBinary = await unpacked("runtime");
  ort.env.wasm.numThreads = 1; // more need headers that a file does not have
  return { ort, session: await ort.InferenceSession.create(await unpacked("network")) };
}

// The crop's map, picture pixels to crop pixels: p -> factor * p + offset, with pixels' centers at whole numbers.
function cropOf([x, y, boxWidth, boxHeight]) {
  const scale = PADDING * Math.max(boxWidth, (boxHeight * width) / height);
  const factor = width / scale;
  return {
    factor,
    left: width / 2 - factor * (x + boxWidth / 2),
    top: height / 2 - factor * (y + boxHeight / 2),
  };
}

// A joint's raw score as the probability that it is right: linear between the knots, the last value beyond them.
function calibrated(score, joint) {
  if (!calibration) return score;
  const [knots, values] = [calibration.scores[joint], calibration.probabilities[joint]];
  const next = knots.findIndex((knot) => knot > score);
  if (next < 0) return values[values.length - 1];
  if (next === 0) return values[0];
  const share = (score - knots[next - 1]) / (knots[next] - knots[next - 1]);
  return values[next - 1] + share * (values[next] - values[next - 1]);
}

async function predict({ ort, session }, source, box) {
  const { factor, left, top } = cropOf(box);
  const half = (1 - factor) / 2; // a canvas counts from the corner of a pixel
  cropped.setTransform(1, 0, 0, 1, 0, 0);
  cropped.clearRect(0, 0, width, height);
  cropped.setTransform(factor, 0, 0, factor, left + half, top + half);
  cropped.drawImage(source, 0, 0);
  const { data } = cropped.getImageData(0, 0, width, height);
  const pixels = new Uint8Array(3 * width * height);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    for (let color = 0; color < 3; color++) pixels[to++] = data[from + color];
  }
  const { keypoints } = await session.run({ crops: new ort.Tensor("uint8", pixels, [1, height, width, 3]) });
  const found = [];
  for (let i = 0; i < keypoints.data.length; i += 3) {
    const [x, y, score] = keypoints.data.slice(i, i + 3);
    found.push([(x - left) / factor, (y - top) / factor, calibrated(score, i / 3)]);
  }
  return found;
}

function draw(source, keypoints, box) {
  context.drawImage(source, 0, 0);
  const size = Math.max(canvas.width, canvas.height) / 200;
  context.lineWidth = size;
  context.strokeStyle = "#888";
  context.strokeRect(...box);
  const seen = ([, , score]) => score >= threshold;
  context.strokeStyle = "#00c8ff";
  for (const [from, to] of metadata.limbs) {
    if (!seen(keypoints[from]) || !seen(keypoints[to])) continue;
    context.beginPath();
    context.moveTo(keypoints[from][0], keypoints[from][1]);
    context.lineTo(keypoints[to][0], keypoints[to][1]);
    context.stroke();
  }
  context.fillStyle = "#ff5a00";
  for (const [x, y] of keypoints.filter(seen)) {
    context.beginPath();
    context.arc(x, y, size, 0, 2 * Math.PI);
    context.fill();
  }
}

let source = null;
let box = null;
let start = null;
let busy = false;
const loaded = load();

async function show() {
  if (!source || busy) return;
  busy = true;
  try {
    const taken = box ?? [0, 0, canvas.width, canvas.height];
    const began = performance.now();
    const keypoints = await predict(await loaded, source, taken);
    const milliseconds = performance.now() - began;
    draw(source, keypoints, taken);
    window.found = { keypoints, milliseconds };
    element("status").textContent = `${milliseconds.toFixed(0)} ms a person`;
  } catch (error) {
    element("status").textContent = `this cannot be computed here: ${error.message}`;
  }
  busy = false;
}

function take(picture, pictureWidth, pictureHeight) {
  [source, box, canvas.width, canvas.height] = [picture, null, pictureWidth, pictureHeight];
  return show();
}

element("file").addEventListener("change", async ({ target }) => {
  if (!target.files.length) return;
  try {
    const picture = await createImageBitmap(target.files[0]);
    await take(picture, picture.width, picture.height);
  } catch {
    element("status").textContent = `${target.files[0].name}: is no picture that this browser can read`;
  }
});

element("camera").addEventListener("click", async () => {
  try {
    const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
    await video.play();
    await take(video, video.videoWidth, video.videoHeight);
    for (; source === video; await new Promise(requestAnimationFrame)) await show();
    video.srcObject.getTracks().forEach((track) => track.stop());
  } catch (error) {
    element("status").textContent = `no camera: ${error.message}`;
  }
});

function place(event) {
  const shown = canvas.getBoundingClientRect();
  const scale = canvas.width / shown.width;
  return [(event.clientX - shown.left) * scale, (event.clientY - shown.top) * scale];
}

canvas.addEventListener("pointerdown", (event) => (start = place(event)));
canvas.addEventListener("pointerup", (event) => {
  if (!start) return;
  const end = place(event);
  const [x, y] = [Math.min(start[0], end[0]), Math.min(start[1], end[1])];
  const sides = [Math.abs(end[0] - start[0]), Math.abs(end[1] - start[1])];
  [start, box] = [null, Math.min(...sides) < 8 ? null : [x, y, ...sides]];
  show();
});

loaded.then(
  () => (element("status").textContent = source ? "" : "Ready: choose a picture"),
  (error) => (element("status").textContent = `the network cannot be loaded: ${error.message}`),
);
