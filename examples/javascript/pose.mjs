// One person's keypoints in JavaScript: box -> crop -> network -> decode -> picture, by onnxruntime-web.
//
//     python tools/export.py CONFIG CHECKPOINT --out pose.onnx
//     npm install && node pose.mjs pose.onnx me.ppm 120 40 80 200 drawn.ppm
//
// Prints x, y in pixels of the picture and the score of each of COCO's 17 keypoints, and writes the picture with them.
// Pictures are binary PPM, which needs no library; `convert me.jpg me.ppm` makes one. In a browser the functions are
// the same, and pixels come from a canvas: `tools/export.py --format web` writes such a page.
import { readFileSync, writeFileSync } from "node:fs";
import * as ort from "onnxruntime-web";

// ImageNet's mean and deviation, the padding of boxes, the shift of mirrored heatmaps: all in the file's metadata.
const MEAN = [0.485, 0.456, 0.406];
const STD = [0.229, 0.224, 0.225];
const PADDING = 1.25;
const FLIP_SHIFT = 1;
const MIRRORED = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15];

function readPpm(path) {
  const bytes = readFileSync(path);
  const head = /^P6\s+(\d+)\s+(\d+)\s+255\s/.exec(bytes.toString("latin1", 0, 64));
  if (!head) throw new Error(`${path}: not a binary PPM of 8 bits`);
  const [width, height] = [Number(head[1]), Number(head[2])];
  const rgb = new Uint8Array(bytes.subarray(head[0].length));
  if (rgb.length < 3 * width * height) throw new Error(`${path}: ends too early`);
  return { width, height, rgb };
}

const writePpm = (path, { width, height, rgb }) =>
  writeFileSync(path, Buffer.concat([Buffer.from(`P6\n${width} ${height}\n255\n`), rgb]));

// Picture pixels to crop pixels, p -> factor * p + offset: the box padded to the crop's shape and enlarged, its center
// in the middle of the crop. A pixel's center is at a whole number.
export function cropOf([x, y, boxWidth, boxHeight], width, height) {
  const factor = width / (PADDING * Math.max(boxWidth, (boxHeight * width) / height));
  const left = width / 2 - factor * (x + boxWidth / 2);
  const top = height / 2 - factor * (y + boxHeight / 2);
  return { factor, left, top };
}

// The crop as the network takes it: (1, 3, H, W) float32 normalized RGB, resampled bilinearly, black outside.
export function cutOut(image, { factor, left, top }, width, height) {
  const values = new Float32Array(3 * width * height);
  const pixel = (x, y, color) =>
    x >= 0 && y >= 0 && x < image.width && y < image.height ? image.rgb[3 * (y * image.width + x) + color] : 0;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const [x, y] = [(column - left) / factor, (row - top) / factor];
      const [x0, y0] = [Math.floor(x), Math.floor(y)];
      const [right, below] = [x - x0, y - y0];
      for (let color = 0; color < 3; color++) {
        const upper = pixel(x0, y0, color) * (1 - right) + pixel(x0 + 1, y0, color) * right;
        const lower = pixel(x0, y0 + 1, color) * (1 - right) + pixel(x0 + 1, y0 + 1, color) * right;
        const value = Math.round(upper * (1 - below) + lower * below) / 255;
        values[(color * height + row) * width + column] = (value - MEAN[color]) / STD[color];
      }
    }
  }
  return values;
}

export function mirrored(values, width) {
  const turned = new Float32Array(values.length);
  for (let start = 0; start < values.length; start += width) {
    turned.set(values.slice(start, start + width).reverse(), start);
  }
  return turned;
}

// The mean of a crop's heatmaps and of those of the mirrored crop, which are mirrored back and moved to the right.
export function average(maps, flipped, height, width) {
  const mean = new Float32Array(maps.length);
  for (let at = 0; at < maps.length; at++) {
    const [x, row, joint] = [at % width, Math.floor(at / width) % height, Math.floor(at / (width * height))];
    const from = x < FLIP_SHIFT ? x : x - FLIP_SHIFT; // the first columns stay where they are
    mean[at] = (maps[at] + flipped[(MIRRORED[joint] * height + row) * width + width - 1 - from]) / 2;
  }
  return mean;
}

// The highest pixel of each map, and a quarter of one towards the higher neighbor, in heatmap pixels: [x, y, score].
export function decode(maps, height, width) {
  return MIRRORED.map((_, joint) => {
    const map = maps.subarray(joint * height * width, (joint + 1) * height * width);
    let peak = 0;
    for (let at = 1; at < map.length; at++) if (map[at] > map[peak]) peak = at;
    if (!(map[peak] > 0)) return [0, 0, map[peak]];
    let [x, y] = [peak % width, Math.floor(peak / width)];
    if (x > 1 && x < width - 1 && y > 1 && y < height - 1) {
      x += 0.25 * Math.sign(map[peak + 1] - map[peak - 1]);
      y += 0.25 * Math.sign(map[peak + width] - map[peak - width]);
    }
    return [x, y, map[peak]];
  });
}

function draw(image, keypoints) {
  for (const [x, y, score] of keypoints) {
    for (let at = 0; at < 25 && score > 0.2; at++) {
      const [column, row] = [Math.floor(x) - 2 + (at % 5), Math.floor(y) - 2 + Math.floor(at / 5)];
      const inside = column >= 0 && row >= 0 && column < image.width && row < image.height;
      if (inside) image.rgb.set([255, 90, 0], 3 * (row * image.width + column));
    }
  }
}

async function main([file, picture, x, y, boxWidth, boxHeight, out]) {
  if (!out) throw new Error("needs NETWORK IMAGE.ppm X Y WIDTH HEIGHT OUT.ppm");
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(readFileSync(file));
  const [, , height, width] = session.inputMetadata[0].shape;
  const run = async (values) => (await session.run({ crops: new ort.Tensor("float32", values, [1, 3, height, width]) })).heatmaps;
  const image = readPpm(picture);
  const crop = cropOf([x, y, boxWidth, boxHeight].map(Number), width, height);
  const values = cutOut(image, crop, width, height);
  const maps = await run(values);
  const flipped = await run(mirrored(values, width));
  const [, , rows, columns] = maps.dims;
  const stride = width / columns;
  const keypoints = decode(average(maps.data, flipped.data, rows, columns), rows, columns).map(([px, py, score]) => [
    (stride * px - crop.left) / crop.factor,
    (stride * py - crop.top) / crop.factor,
    score,
  ]);
  for (const [px, py, score] of keypoints) console.log(px.toFixed(4), py.toFixed(4), score.toFixed(6));
  draw(image, keypoints);
  writePpm(out, image);
}

main(process.argv.slice(2)).catch((error) => {
  console.error(`error: ${error.message}`);
  process.exitCode = 2;
});
