// Draws persons the way pose/visualization.py does. A person is {keypoints: [[x, y, score], ...], box: [x, y, w, h],
// track_id}; META is {keypoints, sides, limbs, limb_sides, colors}, see pose/inference/viewer.py.
"use strict";

function trackColor(id) {
  return `hsl(${(id * 0.618034 % 1) * 360} 100% 62.5%)`;
}

// With a chosen person the others are drawn faintly.
function drawPersons(context, persons, scale, threshold, chosen) {
  const byArea = [...persons].sort((a, b) => b.box[2] * b.box[3] - a.box[2] * a.box[3]);
  for (const person of byArea) {
    context.globalAlpha = chosen && person !== chosen ? 0.25 : 1;
    drawPerson(context, person, scale, threshold);
  }
  context.globalAlpha = 1;
}

// Which person is meant by a point of the image: the smallest box around it; -1 for none.
function personAt(persons, x, y) {
  let best = -1;
  persons.forEach(({ box: [left, top, width, height] }, index) => {
    const around = x >= left && x <= left + width && y >= top && y <= top + height;
    if (around && (best === -1 || width * height < persons[best].box[2] * persons[best].box[3])) best = index;
  });
  return best;
}

function drawPerson(context, person, scale, threshold) {
  const width = Math.max(1.5, Math.sqrt(person.box[2] * person.box[3]) * scale / 45);
  const place = (k) => [person.keypoints[k][0] * scale + scale / 2, person.keypoints[k][1] * scale + scale / 2];
  const shown = (k) => person.keypoints[k][2] >= threshold;
  const limbs = META.limbs.map((pair, index) => [...pair, META.limb_sides[index]]).filter(([a, b]) => shown(a) && shown(b));
  const joints = META.keypoints.map((_, k) => k).filter(shown);
  context.lineCap = "round";
  for (const outline of [true, false]) {
    for (const [a, b, side] of limbs) {
      context.strokeStyle = outline ? "#141414" : META.colors[side];
      context.lineWidth = width * (outline ? 1.5 : 1);
      context.beginPath();
      context.moveTo(...place(a));
      context.lineTo(...place(b));
      context.stroke();
    }
    for (const k of joints) {
      context.fillStyle = outline ? "#141414" : META.colors[META.sides[k]];
      context.beginPath();
      context.arc(...place(k), width * (outline ? 1.05 : 0.8), 0, 2 * Math.PI);
      context.fill();
    }
  }
  if (person.track_id === undefined) return;
  const [x, y, w, h] = person.box.map((value) => value * scale);
  context.strokeStyle = context.fillStyle = trackColor(person.track_id);
  context.lineWidth = Math.max(1, width / 2);
  context.strokeRect(x, y, w, h);
  const size = Math.max(12, width * 4);
  context.font = `${size}px sans-serif`;
  const tag = context.measureText(person.track_id).width + 6;
  const top = Math.max(y - size - 4, 0);
  context.fillRect(x, top, tag, size + 4);
  context.fillStyle = "#141414";
  context.fillText(person.track_id, x + 3, top + size);
}
