# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The HTML page of the embedding map: a canvas, without any library. `{{TITLE}}` and `{{DATA}}` are put in by
`write_map`."""

PAGE = r"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{{TITLE}}</title>
<style>
  html, body { margin: 0; height: 100%; font: 14px/1.4 system-ui, sans-serif; color: #222; background: #fff }
  body { display: flex; flex-direction: column }
  header { display: flex; flex-wrap: wrap; gap: .4rem 1rem; align-items: center; padding: .5rem 1rem }
  h1 { font-size: 1rem; margin: 0 }
  main { position: relative; flex: 1; min-height: 0; border-top: 1px solid #ddd }
  canvas { position: absolute; width: 100%; height: 100%; cursor: grab; touch-action: none }
  button { font: inherit; border: 1px solid #ccc; background: #fff; border-radius: 4px; padding: 0 .5rem;
           cursor: pointer }
  button[aria-pressed=false] { opacity: .35 }
  button i { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .4em }
  #tip { position: absolute; display: none; pointer-events: none; max-width: 22rem; background: #fff; padding: 6px;
         border: 1px solid #999; border-radius: 4px; box-shadow: 0 2px 8px #0003; overflow-wrap: anywhere }
  #tip img { display: block; margin-bottom: 4px; min-width: 112px; image-rendering: auto }
  footer { padding: .3rem 1rem; color: #666; border-top: 1px solid #ddd }
</style>
<header><h1>{{TITLE}}</h1><span id="legend"></span>
<label><input type="checkbox" id="pictures"> thumbnails</label><button id="reset">whole map</button></header>
<main><canvas id="map"></canvas><div id="tip"><img alt=""><b></b><div></div></div></main>
<footer id="axes"></footer>
<script type="application/json" id="data">{{DATA}}</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent), points = data.points;
const canvas = document.getElementById("map"), context = canvas.getContext("2d"), tip = document.getElementById("tip");
const color = label => label < 0 ? "#456" : `hsl(${(label * 137.508) % 360} 70% ${42 + 12 * (label % 2)}%)`;
const hidden = new Set(), pictures = document.getElementById("pictures"), images = new Map();
let scale = 1, left = 0, top_ = 0, dragged = null, hovered = null;

document.getElementById("axes").textContent = `Across: ${data.axes[0]}. Up: ${data.axes[1]}. ` +
  "Hover for a video, drag to pan, turn the wheel to zoom.";
data.labels.forEach((name, label) => {
  const button = document.createElement("button"), dot = document.createElement("i");
  dot.style.background = color(label);
  button.append(dot, name);
  button.setAttribute("aria-pressed", "true");
  button.onclick = () => {
    hidden.has(label) ? hidden.delete(label) : hidden.add(label);
    button.setAttribute("aria-pressed", String(!hidden.has(label)));
    paint();
  };
  document.getElementById("legend").append(button, " ");
});

function fit() {
  const xs = points.map(p => p.x), ys = points.map(p => p.y);
  const wider = ([low, high], value) => [Math.min(low, value), Math.max(high, value)];
  const range = values => values.reduce(wider, [Infinity, -Infinity]);
  const [x0, x1] = range(xs), [y0, y1] = range(ys), width = canvas.clientWidth, height = canvas.clientHeight;
  scale = 0.86 * Math.min(width / (x1 - x0 || 1), height / (y1 - y0 || 1));
  left = width / 2 - scale * (x0 + x1) / 2;
  top_ = height / 2 + scale * (y0 + y1) / 2;
  paint();
}
const place = p => [left + scale * p.x, top_ - scale * p.y];
const shown = p => !hidden.has(p.label);
function image(p) {
  if (!images.has(p)) {
    const picture = new Image();
    picture.onload = paint;
    picture.src = "data:image/jpeg;base64," + p.picture;
    images.set(p, picture);
  }
  return images.get(p);
}
function paint() {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = canvas.clientHeight * ratio;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  for (const p of points) {
    if (!shown(p)) continue;
    const [x, y] = place(p), side = 48;
    if (x < -side || y < -side || x > canvas.clientWidth + side || y > canvas.clientHeight + side) continue;
    context.fillStyle = context.strokeStyle = color(p.label);
    if (pictures.checked && p.picture && image(p).complete && image(p).naturalWidth) {
      const {naturalWidth: w, naturalHeight: h} = image(p), factor = side / Math.max(w, h);
      context.drawImage(image(p), x - w * factor / 2, y - h * factor / 2, w * factor, h * factor);
      context.lineWidth = 2;
      context.strokeRect(x - w * factor / 2, y - h * factor / 2, w * factor, h * factor);
      continue;
    }
    context.globalAlpha = 0.8;
    context.beginPath();
    context.arc(x, y, p === hovered ? 8 : 5, 0, 2 * Math.PI);
    context.fill();
    context.globalAlpha = 1;
  }
}
function hover(x, y) {
  let best = null, nearest = pictures.checked ? 30 : 14;
  for (const p of points) {
    if (!shown(p)) continue;
    const [px, py] = place(p), distance = Math.hypot(px - x, py - y);
    if (distance < nearest) [best, nearest] = [p, distance];
  }
  if (best !== hovered) { hovered = best; paint(); }
  tip.style.display = best ? "block" : "none";
  if (!best) return;
  const [picture, name, label] = tip.children;
  picture.style.display = best.picture ? "block" : "none";
  if (best.picture) picture.src = "data:image/jpeg;base64," + best.picture;
  name.textContent = best.name;
  label.textContent = best.label < 0 ? "" : data.labels[best.label];
  tip.style.left = Math.max(Math.min(x + 14, canvas.clientWidth - tip.offsetWidth - 4), 0) + "px";
  tip.style.top = Math.max(Math.min(y + 14, canvas.clientHeight - tip.offsetHeight - 4), 0) + "px";
}
canvas.onpointerdown = event => {
  dragged = [event.offsetX - left, event.offsetY - top_];
  canvas.setPointerCapture(event.pointerId);
};
canvas.onpointerup = () => { dragged = null; };
canvas.onpointerleave = () => { tip.style.display = "none"; };
canvas.onpointermove = event => {
  if (!dragged) return hover(event.offsetX, event.offsetY);
  [left, top_] = [event.offsetX - dragged[0], event.offsetY - dragged[1]];
  tip.style.display = "none";
  paint();
};
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  const factor = Math.exp(-event.deltaY / 500);
  left = event.offsetX - factor * (event.offsetX - left);
  top_ = event.offsetY - factor * (event.offsetY - top_);
  scale *= factor;
  paint();
}, {passive: false});
pictures.onchange = paint;
document.getElementById("reset").onclick = fit;
window.onresize = paint;
fit();
</script>
</html>
"""
