// A picture or a camera in, skeletons out: detector, crops, network and drawing, all in the page.
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
  const session = await ort.InferenceSession.create(await unpacked("network"));
  const detector = metadata.detector && (await ort.InferenceSession.create(await unpacked("detector")));
  return { ort, session, detector };
}

// RGB of a canvas as the networks take it, (1, H, W, 3).
function pixelsOf(ort, canvasContext, rows, columns) {
  const { data } = canvasContext.getImageData(0, 0, columns, rows);
  const pixels = new Uint8Array(3 * rows * columns);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    for (let color = 0; color < 3; color++) pixels[to++] = data[from + color];
  }
  return new ort.Tensor("uint8", pixels, [1, rows, columns, 3]);
}

// The detector's input for a picture: the multiples of 32 within its area that draw the picture largest.
function inputSize(pictureWidth, pictureHeight) {
  const { size_divisor: step, longest_side: longest, input_area: area } = metadata.detector;
  let best = null;
  for (let down = step; down <= longest; down += step) {
    for (let across = step; across <= longest && across * down <= area; across += step) {
      const factor = Number(Math.min(across / pictureWidth, down / pictureHeight).toFixed(6));
      const better = !best || factor > best.factor || (factor === best.factor && across * down < best.across * best.down);
      if (better) best = { across, down, factor };
    }
  }
  return best;
}

function overlapOf(a, b) {
  const [across, down] = [0, 1].map((i) => Math.max(0, Math.min(a[i + 2], b[i + 2]) - Math.max(a[i], b[i])));
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  return (across * down) / (area(a) + area(b) - across * down);
}

// Boxes [x, y, width, height] of the persons on a picture, the best first.
async function detect({ ort, detector }, source, pictureWidth, pictureHeight) {
  const { gray, threshold, overlap } = metadata.detector;
  const { across, down, factor } = inputSize(pictureWidth, pictureHeight);
  const context = new OffscreenCanvas(across, down).getContext("2d", { willReadFrequently: true });
  context.fillStyle = `rgb(${gray} ${gray} ${gray})`;
  context.fillRect(0, 0, across, down);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, pictureWidth * factor, pictureHeight * factor);
  const { boxes } = await detector.run({ images: pixelsOf(ort, context, down, across) });
  const kept = [];
  for (let i = 0; i < boxes.data.length && boxes.data[i + 4] > threshold; i += 5) {
    const box = boxes.data.slice(i, i + 4);
    if (kept.every((better) => overlapOf(better, box) <= overlap)) kept.push(box);
  }
  return kept.map((box) => {
    const [left, top, right, bottom] = box.map((side, i) =>
      Math.min(Math.max(side / factor, 0), i % 2 ? pictureHeight : pictureWidth),
    );
    return [left, top, right - left, bottom - top];
  });
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
  const { keypoints } = await session.run({ crops: pixelsOf(ort, cropped, height, width) });
  const found = [];
  for (let i = 0; i < keypoints.data.length; i += 3) {
    const [x, y, score] = keypoints.data.slice(i, i + 3);
    found.push([(x - left) / factor, (y - top) / factor, calibrated(score, i / 3)]);
  }
  return found;
}

function draw(keypoints, box) {
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
    const networks = await loaded;
    const began = performance.now();
    const whole = [0, 0, canvas.width, canvas.height];
    const boxes = box ? [box] : networks.detector ? await detect(networks, source, canvas.width, canvas.height) : [whole];
    const detecting = performance.now() - began;
    const persons = [];
    for (const own of boxes) persons.push({ box: own, keypoints: await predict(networks, source, own) });
    const milliseconds = (performance.now() - began - detecting) / Math.max(persons.length, 1);
    context.drawImage(source, 0, 0);
    for (const person of persons) draw(person.keypoints, person.box);
    window.found = { persons, milliseconds, detecting };
    const told = `${persons.length} found in ${detecting.toFixed(0)} ms, then ${milliseconds.toFixed(0)} ms a person`;
    element("status").textContent = persons.length ? told : "nobody found: drag a box around a person";
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
