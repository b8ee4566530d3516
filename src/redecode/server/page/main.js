// The page: what is open, what is shown, what is saved.

import { ask, askBitmap, askJson, Refusal } from "./api.js";
import { Viewer, cut, tint } from "./viewer.js";

const POLL_MS = 350;
const PAUSE_MS = 2000;
const MOST_AT_ONCE = 500; // Pictures that one request asks about.
const UPLOADS_AT_ONCE = 3;
const PICTURES_IN_MEMORY = 3;
const FIGURES_AFTER_MS = 250;
const SAVED = "pictures";
const SUFFIXES = { png: ".png", webp: ".webp", avif: ".avif", jpeg: ".jpg", tiff: ".tif" };
const THUMBNAIL = { width: 200, height: 128 };

const $ = (id) => document.getElementById(id);

const viewer = new Viewer({ canvas: $("canvas"), divider: $("divider"), before: $("before"), after: $("after"), level: $("zoom-level") });

/**
 * What is open, in order. An item has a name and a size; a file until the page is loaded anew; an id and a status once the
 * server has it; layers while they are in memory; a refusal where it was refused.
 */
const items = [];
let current = null;
let polling = false;
let uploading = 0;
let moment = 0;

// ---------------------------------------------------------------- opening

function open(files) {
  const added = [...files].map((file) => ({ file, name: file.name || "pasted.png", size: file.size, texture: 1 }));
  if (!added.length) return;
  items.push(...added);
  added.forEach(addThumbnail);
  if (!current) select(added[0]);
  upload();
}

async function upload() {
  while (uploading < UPLOADS_AT_ONCE) {
    const item = items.find((one) => one.file && !one.id && !one.refusal && !one.sending);
    if (!item) return;
    uploading++;
    send(item, "pictures", { method: "POST", body: item.file, query: { preset: $("preset").value } }).finally(() => {
      uploading--;
      upload();
    });
  }
}

/** Have the server restore an item, and drop what it had of it. */
async function send(item, path, choices) {
  item.sending = new AbortController();
  refresh(item);
  try {
    const status = await askJson(path, { ...choices, signal: item.sending.signal });
    if (!items.includes(item)) {
      forget(status.id);
      return;
    }
    if (item.id) forget(item.id);
    dropLayers(item);
    Object.assign(item, { id: status.id, status, figures: null });
    save();
    poll();
  } catch (error) {
    if (error.name !== "AbortError") refuse(item, error);
  } finally {
    item.sending = null;
    refresh(item);
  }
}

const forget = (id) => ask(`pictures/${id}`, { method: "DELETE" }).catch(() => {});

function refuse(item, error) {
  item.refusal = error instanceof Refusal ? error.message : "the server cannot be reached";
  // What is wrong with a file stays wrong; what is wrong with the server may pass.
  item.passing = !(error instanceof Refusal) || error.status >= 500;
  item.id = null;
  announce(`${item.name} was refused: ${item.refusal}`);
  save();
}

function remove(item) {
  item.sending?.abort();
  if (item.id) forget(item.id);
  dropLayers(item);
  const index = items.indexOf(item);
  items.splice(index, 1);
  item.entry.remove();
  save();
  if (current === item) select(items[Math.min(index, items.length - 1)] ?? null);
  refreshSaving();
}

async function poll() {
  if (polling) return;
  polling = true;
  for (;;) {
    let pause = POLL_MS;
    const pending = items.filter((item) => item.id && !["done", "failed"].includes(item.status?.state)).slice(0, MOST_AT_ONCE);
    if (!pending.length) break;
    try {
      const { pictures } = await askJson("pictures", { query: { id: pending.map((item) => item.id) } });
      for (const item of pending) note(item, pictures.find((status) => status.id === item.id));
    } catch {
      pause = PAUSE_MS; // The server cannot be reached, or not just now.
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
  polling = false;
}

/** Take note of an item's status; none where the server does not know it any more. */
function note(item, status) {
  if (!items.includes(item) || (status && status.id !== item.id)) return;
  if (!status) {
    item.id = item.status = null;
    if (item.file) upload();
    else {
      announce(`${item.name} is not kept any more`);
      remove(item);
    }
  } else {
    item.status = status;
    if (status.state === "failed") refuse(item, new Refusal(status.problem, status.problem.status));
    if (status.state === "done") announce(`${item.name} is restored`);
  }
  refresh(item);
}

function save() {
  const kept = items.filter((item) => item.id).map(({ id, name, size, texture }) => ({ id, name, size, texture }));
  sessionStorage.setItem(SAVED, JSON.stringify(kept.slice(-MOST_AT_ONCE)));
}

async function reopen() {
  const kept = JSON.parse(sessionStorage.getItem(SAVED) ?? "[]");
  if (!kept.length) return;
  const { pictures } = await askJson("pictures", { query: { id: kept.map(({ id }) => id) } });
  for (const item of kept) {
    item.status = pictures.find(({ id }) => id === item.id);
    if (!item.status) continue;
    items.push(item);
    addThumbnail(item);
    if (item.status.state === "failed") refuse(item, new Refusal(item.status.problem, item.status.problem.status));
    refresh(item);
  }
  save();
  if (items.length) select(items[0]);
  poll();
}

// ---------------------------------------------------------------- the strip

function addThumbnail(item) {
  const entry = $("thumbnail").content.firstElementChild.cloneNode(true);
  entry.querySelector(".name").textContent = item.name;
  entry.querySelector(".thumb").addEventListener("click", () => select(item));
  const closing = entry.querySelector(".remove");
  closing.setAttribute("aria-label", `Remove ${item.name}`);
  closing.addEventListener("click", () => remove(item));
  item.entry = entry;
  $("strip").append(entry);
  if (item.file) {
    // Formats that browsers do not know (TIFF) get theirs from the server.
    createImageBitmap(item.file, { resizeHeight: THUMBNAIL.height, resizeQuality: "medium" }).then((bitmap) => paintThumbnail(item, bitmap), () => {});
  }
}

function paintThumbnail(item, bitmap) {
  const canvas = item.entry.querySelector("canvas");
  const scale = Math.max(canvas.width / bitmap.width, canvas.height / bitmap.height);
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  canvas.getContext("2d").drawImage(bitmap, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
  bitmap.close();
  item.painted = true;
}

function progressOf(item) {
  const { status } = item;
  if (item.refusal || status?.state === "done") return null;
  if (!status?.tiles_total) return { text: status?.state === "working" ? "Reading" : status ? "Waiting" : "Sending", share: 0 };
  if (status.tiles_done === status.tiles_total) return { text: "Finishing", share: 1 };
  return { text: `Restoring, tile ${status.tiles_done + 1} of ${status.tiles_total}`, share: status.tiles_done / status.tiles_total };
}

/** Bring everything that shows an item up to date. */
function refresh(item) {
  if (!items.includes(item)) return;
  const progress = progressOf(item);
  const thumb = item.entry.querySelector(".thumb");
  thumb.classList.toggle("pending", Boolean(progress));
  thumb.classList.toggle("failed", Boolean(item.refusal));
  thumb.title = item.refusal ? `${item.name}: ${item.refusal}` : item.name;
  const bar = thumb.querySelector("progress");
  bar.hidden = !progress;
  bar.value = progress?.share ?? 0;
  if (!item.painted && item.status?.width) {
    item.painted = true;
    askBitmap(`pictures/${item.id}/layers/thumbnail`).then((bitmap) => paintThumbnail(item, bitmap), () => {});
  }
  if (item === current) refreshCurrent();
  refreshSaving();
}

// ---------------------------------------------------------------- the large view

function select(item) {
  current = item;
  moment++;
  $("welcome").hidden = Boolean(item);
  $("work").hidden = $("add").hidden = !item;
  for (const one of items) one.entry.querySelector(".thumb").setAttribute("aria-current", String(one === item));
  document.title = item ? `${item.name} – redecode` : "redecode";
  viewer.clear();
  if (!item) {
    $("choose").focus();
    return;
  }
  item.entry.scrollIntoView({ block: "nearest", inline: "nearest" });
  item.touched = moment;
  setDial(item.texture);
  refreshCurrent();
  refreshSaving();
}

function refreshCurrent() {
  const item = current;
  const progress = progressOf(item);
  $("working").hidden = !progress;
  if (progress) {
    $("working-text").textContent = progress.text;
    $("working-bar").value = progress.share;
  }
  $("refused").hidden = !item.refusal;
  $("zoom").hidden = Boolean(item.refusal);
  if (item.refusal) {
    $("refused-title").textContent = `${item.name} was refused`;
    $("refused-text").textContent = sentence(item.refusal);
    $("retry").hidden = !(item.file && item.passing);
  }
  const done = item.status?.state === "done" && !item.refusal;
  $("texture").disabled = !done || !item.status.changed;
  $("preset").disabled = $("as-is").disabled = !done;
  $("as-is-row").hidden = !item.status?.facts?.earlier_compression;
  $("as-is").checked = Boolean(item.status?.as_is);
  refreshNotice(done ? item.status : null);
  refreshFacts(item);
  refreshFigures(item);
  showLayers(item);
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}`;

function refreshNotice(status) {
  const texts = [];
  if (status && !status.changed) texts.push("No trace of JPEG compression shows, so nothing was changed.");
  if (status?.facts.damaged) texts.push("Parts of the picture data are missing or corrupt; what is there was restored.");
  if (status?.facts.bytes_after_the_picture) texts.push("What the file holds after its picture (another picture, a video) is left out.");
  $("notice").hidden = !texts.length;
  $("notice-text").textContent = texts.join(" ");
  $("force").hidden = !status || status.changed;
}

/** Show as much of an item as there is: the file itself, as browsers show it; the decoded original; everything. */
async function showLayers(item) {
  if (item.refusal || item.loading) return;
  const wanted = item.status?.state === "done" ? "all" : item.status?.width ? "original" : item.file ? "file" : null;
  if (!wanted) return;
  if (item.shown !== wanted || !item.layers) {
    item.loading = true;
    const reveal = item.shown && item.shown !== "all" && wanted === "all";
    try {
      const layers = await load(item, wanted);
      dropLayers(item);
      Object.assign(item, { layers, shown: wanted });
      if (item === current) viewer.show(layers, item.status?.grid, reveal);
    } catch (error) {
      if (error.status === 404) note(item, undefined);
      else if (wanted !== "file") throw error; // A format that this browser does not know: the server will show it.
      item.shown = wanted;
      item.layers ??= null;
    } finally {
      item.loading = false;
    }
    makeRoom();
    // It may have come further meanwhile.
    if (item === current && wanted !== "all" && item.status?.width) showLayers(item);
  } else if (viewer.layers !== item.layers) {
    viewer.show(item.layers, item.status?.grid);
  }
}

async function load(item, wanted) {
  if (wanted === "file") return { original: await createImageBitmap(item.file) };
  const layer = (name) => askBitmap(`pictures/${item.id}/layers/${name}`);
  if (wanted === "original") return { original: await layer("original") };
  const [original, base, texture, mask] = await Promise.all(["original", "base", "texture", "mask"].map(layer));
  const colour = getComputedStyle(document.documentElement).getPropertyValue("--mask");
  const layers = { original, base, texture: cut(texture, mask), mask: tint(mask, colour) };
  texture.close();
  mask.close();
  return layers;
}

function dropLayers(item) {
  if (viewer.layers === item.layers) viewer.layers = null;
  item.layers?.original.close();
  item.layers?.base?.close();
  item.layers = null;
}

function makeRoom() {
  const loaded = items.filter((item) => item.layers && item !== current).sort((a, b) => b.touched - a.touched);
  loaded.slice(PICTURES_IN_MEMORY - 1).forEach(dropLayers);
}

// ---------------------------------------------------------------- the panel

function setDial(amount) {
  const percent = Math.round(amount * 100);
  $("texture").value = percent;
  $("texture").style.setProperty("--at", `${percent}%`);
  $("texture-value").value = `${percent} %`;
  viewer.setAmount(amount);
}

let figuresTimer;

function turnDial() {
  current.texture = Number($("texture").value) / 100;
  setDial(current.texture);
  refreshFigures(current);
  save();
}

async function askFigures(item) {
  const { id, texture } = item;
  try {
    const figures = await askJson(`pictures/${id}/figures`, { query: { texture } });
    if (item.id === id) item.figures = figures;
    if (item === current) refreshFigures(item);
  } catch (error) {
    if (error.status === 404) note(item, undefined);
  }
}

function refreshFigures(item) {
  const figures = item.figures ?? item.status?.figures;
  const stale = Boolean(figures) && item.status.changed && figures.texture !== item.texture;
  const show = (id, text) => {
    $(id).textContent = text;
    $(id).classList.toggle("stale", stale);
  };
  $("used-preset").textContent = item.status?.preset ?? "–";
  const restored = figures && item.status.changed && figures.consistency !== null;
  show("consistency", restored ? `${(Math.floor(figures.consistency * 10000) / 100).toFixed(2)} %` : "–");
  show("projection", !restored ? "–" : figures.projection_psnr === null ? "∞ dB" : `${figures.projection_psnr.toFixed(1)} dB`);
  clearTimeout(figuresTimer);
  if (stale) figuresTimer = setTimeout(askFigures, FIGURES_AFTER_MS, item);
}

const UNITS = ["bytes", "kB", "MB", "GB"];

function bytes(count) {
  const power = count < 1000 ? 0 : Math.min(Math.floor(Math.log10(count) / 3), UNITS.length - 1);
  return `${(count / 1000 ** power).toFixed(power ? 1 : 0)} ${UNITS[power]}`;
}

function refreshFacts(item) {
  const facts = item.status?.facts;
  const described = item.id ?? item.name;
  if ($("facts").dataset.of === `${described} ${Boolean(facts)}`) return;
  $("facts").dataset.of = `${described} ${Boolean(facts)}`;
  const fit = facts?.quality_fit === undefined || facts.quality_fit === 1 ? "" : "about ";
  const rows = {
    Name: item.name,
    Size: bytes(item.size),
    Format: facts?.format,
    Pixels: facts && `${facts.width} × ${facts.height}`,
    Quality: facts?.quality && `${fit}${facts.quality}`,
    Colours: facts && [facts.colour_model, facts.subsampling].filter((part) => part && part !== "gray").join(" ") || facts && "gray",
    Metadata: facts && (facts.metadata.map((name) => METADATA[name] ?? name).join(", ") || "none"),
    "Compressed before": facts?.earlier_compression ?? (facts && "no sign of it"),
  };
  $("facts").replaceChildren(...Object.entries(rows).map(([name, value]) => row(name, value || "–")));
  const tables = facts ? [["Luma", facts.luma_table], ["Chroma", facts.chroma_table]].filter(([, table]) => table) : [];
  $("tables-body").replaceChildren(...tables.map(([name, steps]) => table(name, steps)));
  $("tables").hidden = Boolean(facts) && !tables.length;
}

const METADATA = { exif: "EXIF", icc_profile: "colour profile", dpi: "resolution", xmp: "XMP", comment: "comment" };

function element(kind, text, ...children) {
  const made = document.createElement(kind);
  if (text !== null) made.textContent = text;
  made.append(...children);
  return made;
}

const row = (name, value) => element("div", null, element("dt", name), element("dd", value));

function table(name, steps) {
  const most = Math.max(...steps.flat());
  const body = steps.map((line) => element("tr", null, ...line.map((step) => {
    const cell = element("td", step);
    cell.style.setProperty("--share", `${Math.round((step / most) * 40)}%`);
    return cell;
  })));
  return element("table", null, element("caption", name), element("tbody", null, ...body));
}

function announce(text) {
  $("said").textContent = text;
}

// ---------------------------------------------------------------- saving

const isDone = (item) => item.status?.state === "done" && !item.refusal;

function refreshSaving() {
  $("save").disabled = !current || !isDone(current) || $("save").dataset.busy === "true";
  $("save-all").disabled = items.filter(isDone).length < 2 || $("save-all").dataset.busy === "true";
}

function download(blob, name) {
  const link = element("a", null);
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The browser has taken hold of it by then.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function saving(button, name, request) {
  const label = button.textContent;
  button.dataset.busy = "true";
  button.textContent = "Preparing…";
  refreshSaving();
  try {
    download(await (await request()).blob(), name);
    announce(`${name} is saved`);
  } catch (error) {
    announce(`Not saved: ${error.message}`);
    $("notice").hidden = false;
    $("notice-text").textContent = sentence(`not saved: ${error.message}`);
    $("force").hidden = true;
  } finally {
    button.dataset.busy = "false";
    button.textContent = label;
    refreshSaving();
  }
}

function saveCurrent() {
  const { id, name, texture } = current;
  const format = $("format").value;
  const stem = name.replace(/\.[^.]*$/, "") || name;
  saving($("save"), `${stem}.redecoded${SUFFIXES[format]}`, () => ask(`pictures/${id}/result`, { query: { texture, format } }));
}

function saveAll() {
  const pictures = items.filter(isDone).map(({ id, name, texture }) => ({ id, name: name.slice(-200), texture }));
  saving($("save-all"), "redecode.zip", () => ask("archives", { method: "POST", json: { pictures, format: $("format").value } }));
}

// ---------------------------------------------------------------- wiring

function listen() {
  for (const id of ["choose", "add"]) $(id).addEventListener("click", () => $("files").click());
  $("files").addEventListener("change", () => {
    open($("files").files);
    $("files").value = "";
  });
  addEventListener("paste", (event) => open(event.clipboardData.files));
  const holdsFiles = (event) => event.dataTransfer.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    $("drop").hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) $("drop").hidden = true;
  });
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    $("drop").hidden = true;
    open(event.dataTransfer.files);
  });
  $("texture").addEventListener("input", turnDial);
  $("save").addEventListener("click", saveCurrent);
  $("save-all").addEventListener("click", saveAll);
  $("cancel").addEventListener("click", () => remove(current));
  $("dismiss").addEventListener("click", () => remove(current));
  $("retry").addEventListener("click", () => {
    current.refusal = current.status = null;
    refresh(current);
    upload();
  });
  $("preset").addEventListener("change", () => again(current, { preset: $("preset").value }));
  $("as-is").addEventListener("change", () => again(current, { as_is: $("as-is").checked }));
  $("force").addEventListener("submit", (event) => {
    event.preventDefault();
    again(current, { force_quality: $("force-quality").value });
  });
  $("zoom-in").addEventListener("click", () => viewer.zoomStep(true));
  $("zoom-out").addEventListener("click", () => viewer.zoomStep(false));
  $("zoom-fit").addEventListener("click", () => viewer.fit());
  $("zoom-actual").addEventListener("click", () => viewer.zoomTo(1));
  for (const button of document.querySelectorAll("[data-overlay]")) button.addEventListener("click", () => toggle(button));
  addEventListener("keydown", (event) => {
    if (event.target.matches("input:not([type=range]), select") || event.ctrlKey || event.metaKey || event.altKey) return;
    const button = document.querySelector(`[data-overlay][aria-keyshortcuts="${CSS.escape(event.key.toLowerCase())}"]`);
    if (button && current) toggle(button);
  });
}

function toggle(button) {
  const on = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(on));
  viewer.toggle(button.dataset.overlay, on);
}

/** Restore a picture in another way, and otherwise as before; the server still has its file. */
function again(item, choices) {
  Object.assign(item.status, choices);
  const { preset, force_quality, as_is } = item.status;
  send(item, `pictures/${item.id}/again`, { method: "POST", query: { preset, force_quality, as_is } });
}

async function offerPresets() {
  const { presets } = await askJson("presets");
  $("preset").replaceChildren(...presets.map(({ name }) => element("option", name)));
  $("preset").value = presets.find((preset) => preset.default).name;
  $("preset-row").hidden = presets.length < 2;
}

listen();
await offerPresets();
await reopen();
document.documentElement.dataset.ready = "true";
