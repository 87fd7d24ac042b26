// The table of a person's keypoints beside a picture; META.keypoints names them.
function fillNumbers(body, person, threshold) {
  body.replaceChildren();
  if (!person) return;
  META.keypoints.forEach((name, k) => {
    const [x, y, score] = person.keypoints[k];
    const row = body.insertRow();
    row.className = score < threshold ? "faint" : "";
    for (const text of [name.replaceAll("_", " "), x.toFixed(1), y.toFixed(1), score.toFixed(2)]) {
      row.insertCell().textContent = text;
    }
  });
}
