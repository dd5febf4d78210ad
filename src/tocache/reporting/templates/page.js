"use strict";
// Texts from outside reach the page through textContent and attributes only, never as HTML.
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const root = document.documentElement;
  const sides = ["left", "right"];
  const state = { prompt: 0, left: 0, right: Math.min(1, data.columns.length - 1), frame: 0, step: 0 };
  // viridis at even distances
  const COLOURS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
  root.classList.add("scripted");

  const percent = (share) => `${(100 * share).toFixed(share < 0.0995 && share > 0 ? 1 : 0)}%`;

  function colour(share) {
    const place = Math.min(Math.max(share, 0), 1) * (COLOURS.length - 1);
    const below = Math.min(Math.floor(place), COLOURS.length - 2);
    return COLOURS[below].map((value, i) => value + (place - below) * (COLOURS[below + 1][i] - value));
  }

  function fill(select, texts) {
    texts.forEach((text, i) => select.add(new Option(text, String(i))));
  }

  function cell(side) {
    return data.prompts[state.prompt].cells[state[side]];
  }

  function showPictures() {
    for (const side of sides) {
      const frames = cell(side).frames;
      const picture = $(`${side}-picture`);
      picture.src = frames ? frames[state.frame] : $(`p${state.prompt}c${state[side]}`).src;
      const label = data.columns[state[side]].label;
      picture.alt = `${label}: ${data.prompts[state.prompt].text}`;
      $(`${side}-tag`).textContent = label;
      $(`${side}-caption`).textContent = cell(side).caption;
    }
    $("prompt-text").textContent = data.prompts[state.prompt].text;
    if ($("frame-text")) $("frame-text").textContent = `${state.frame + 1} of ${data.frames}`;
  }

  // maps: shares of 0 … 255 in a grey picture, decoded once
  const sheets = new Map();
  async function sheet(side) {
    const uri = cell(side).map;
    if (!uri) return null;
    if (!sheets.has(uri)) {
      const image = new Image();
      image.src = uri;
      await image.decode();
      const canvas = new OffscreenCanvas(image.width, image.height);
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(image, 0, 0);
      sheets.set(uri, context.getImageData(0, 0, image.width, image.height).data);
    }
    return sheets.get(uri);
  }

  // the shares of one step, or their mean over all; null without a cache, where every token is computed
  async function shares(side) {
    const { steps, frames, height, width } = data.maps;
    const found = new Float32Array(height * width);
    const values = await sheet(side);
    if (!values) return null;
    const first = Math.floor((state.frame * frames) / data.frames) * width;
    const from = state.step === 0 ? 0 : state.step - 1;
    const end = state.step === 0 ? steps : state.step;
    for (let step = from; step < end; step++)
      for (let y = 0; y < height; y++)
        for (let x = 0; x < width; x++)
          found[y * width + x] += values[4 * ((step * height + y) * frames * width + first + x)] / 255 / (end - from);
    return found;
  }

  let turn = 0;
  async function showMaps() {
    if (!data.maps) return;
    const mine = ++turn;
    const shown = $("show-map").checked;
    const found = await Promise.all(sides.map(shares));
    if (mine !== turn) return; // a later change is under way
    const varied = found.filter((map) => map && Math.max(...map) - Math.min(...map) > 1 / 512);
    let low = varied.length ? Math.min(...varied.map((map) => Math.min(...map))) : 0;
    let high = varied.length ? Math.max(...varied.map((map) => Math.max(...map))) : 1;
    sides.forEach((side, i) => {
      const canvas = $(`${side}-map`);
      canvas.hidden = !shown || !found[i];
      if (!found[i]) return;
      canvas.width = data.maps.width;
      canvas.height = data.maps.height;
      const context = canvas.getContext("2d");
      const pixels = context.createImageData(canvas.width, canvas.height);
      found[i].forEach((share, at) => pixels.data.set([...colour((share - low) / (high - low)), 255], 4 * at));
      context.putImageData(pixels, 0, 0);
      canvas.style.opacity = $("strength").value / 100;
    });
    $("scale-low").textContent = percent(low);
    $("scale-high").textContent = percent(high);
    showStep();
  }

  function showStep() {
    const texts = sides.map((side) => {
      const steps = data.columns[state[side]].steps;
      if (!steps.length) return "every token";
      if (state.step === 0) return "mean";
      const { kind, flops } = steps[state.step - 1];
      return `${kind}, ${percent(flops)} of a full step's FLOPs`;
    });
    const text = state.step === 0
      ? "All steps: the mean"
      : `Step ${state.step - 1}. Left: ${texts[0]}. Right: ${texts[1]}.`;
    $("step-text").textContent = text;
    $("step").setAttribute("aria-valuetext", text);
    for (const mark of document.querySelectorAll(".plan .now")) {
      mark.setAttribute("visibility", state.step === 0 ? "hidden" : "visible");
      const x = data.heat.left + (data.heat.plot * (state.step - 1)) / data.maps.steps;
      if (state.step > 0) mark.setAttribute("x", String(x));
    }
  }

  function show() {
    showPictures();
    showMaps();
  }

  function split() {
    const value = $("split").value;
    $("stage").style.setProperty("--split", `${value}%`);
    $("split").setAttribute("aria-valuetext", `${value}% left, ${100 - value}% right`);
  }

  function mode() {
    const chosen = document.querySelector("input[name=mode]:checked").value;
    $("stage").className = `stage ${chosen}`;
  }

  function choose(name, value) {
    state[name] = Number(value);
    if ($(name)) $(name).value = String(value);
    show();
  }

  function play() {
    const button = $("play");
    const playing = button.getAttribute("aria-pressed") === "true";
    button.setAttribute("aria-pressed", String(!playing));
    button.textContent = playing ? "Play" : "Pause";
    clearInterval(state.timer);
    if (!playing) state.timer = setInterval(() => choose("frame", (state.frame + 1) % data.frames), 1000 / data.fps);
  }

  fill($("prompt"), data.prompts.map((prompt, i) => `${i + 1}. ${prompt.text}`));
  for (const side of sides) {
    fill($(side), data.columns.map((column) => column.label));
    $(side).value = String(state[side]);
  }
  for (const name of ["prompt", ...sides]) $(name).addEventListener("change", (event) => choose(name, event.target.value));
  $("split").addEventListener("input", split);
  $("mode").addEventListener("change", mode);
  if (data.maps) {
    $("step").max = String(data.maps.steps);
    $("step").addEventListener("input", (event) => choose("step", event.target.value));
    for (const name of ["show-map", "strength"]) $(name).addEventListener("input", showMaps);
    const context = $("scale").getContext("2d");
    for (let x = 0; x < 128; x++) {
      context.fillStyle = `rgb(${colour(x / 127).join(" ")})`;
      context.fillRect(x, 0, 1, 1);
    }
  } else $("map-controls").remove();
  if ($("frame")) {
    $("frame").max = String(data.frames - 1);
    $("frame").addEventListener("input", (event) => choose("frame", event.target.value));
    $("play").addEventListener("click", play);
  }
  for (const button of document.querySelectorAll(".cell"))
    button.addEventListener("click", () => {
      choose("prompt", button.dataset.prompt);
      if (button.dataset.column !== "0") choose("right", button.dataset.column);
      $("viewer").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    });

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.style.colorScheme || (dark.matches ? "dark" : "light")) === "dark";
  const nameTheme = () => { $("theme").textContent = isDark() ? "Light page" : "Dark page"; };
  $("theme").addEventListener("click", () => { root.style.colorScheme = isDark() ? "light" : "dark"; nameTheme(); });
  dark.addEventListener("change", nameTheme);

  nameTheme();
  split();
  show();
})();
