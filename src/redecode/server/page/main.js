// The page: what is open, what is shown, what is saved.

import { ask, askBitmap, askJson, FORMATS, knock, onSilence, Refusal, Silence } from "./api.js";
import { Viewer, cut, tint } from "./viewer.js";

const POLL_MS = 350;
const PAUSE_MS = 2000;
const KNOCK_EVERY_MS = 4000;
const MOST_AT_ONCE = 500; // Pictures that one request asks about.
const UPLOADS_AT_ONCE = 3;
const PICTURES_IN_MEMORY = 3;
const FIGURES_AFTER_MS = 250;
const SIZE_AFTER_MS = 700;
const UNDO_MS = 8000;
const SAVED = "pictures";
const CHOSEN = "redecode"; // In the browser's own memory: how to restore and to save next time.
const PICTURE_NAME = /\.(jpe?g|jpe|jfif|png|webp|avif|tiff?|bmp|gif)$/i; // What of a dropped folder is opened.
const THUMBNAIL = { width: 200, height: 128 };
const PRESETS = { fast: "Fast", best: "Best" };

const $ = (id) => document.getElementById(id);

const viewer = new Viewer({ canvas: $("canvas"), divider: $("divider"), before: $("before"), after: $("after"), level: $("zoom-level") });

/**
 * What is open, in order. An item has a name and a size, a file until the page is loaded anew, an amount of texture, and versions: the picture
 * restored in one way each. A version has the choices it was made with; an id and a status once the server has it; layers while they are in
 * memory; a refusal where it was refused. One of them is chosen; until it is done, the last one that was is shown.
 */
const items = [];
let current = null;
let polling = false;
let uploading = 0;
let moment = 0;

const chosen = { preset: null, format: "png", quality: {}, ...JSON.parse(localStorage.getItem(CHOSEN) ?? "{}") };

function remember(choices) {
  Object.assign(chosen, choices);
  localStorage.setItem(CHOSEN, JSON.stringify(chosen));
}

const isDone = (version) => version?.status?.state === "done" && !version.refusal;
const isFailed = (version) => Boolean(version.refusal);
const versionsOf = (list) => list.flatMap((item) => item.versions);

/** The version that is shown and saved: the chosen one, or the last that was done while that one is on its way. */
const shownOf = (item) => (isDone(item.version) ? item.version : item.last ?? item.version);

function addVersion(item, choices) {
  const version = { choices, item };
  item.versions.push(version);
  item.version = version;
  return version;
}

// ---------------------------------------------------------------- opening

function open(files) {
  const added = [...files].map((file) => ({ file, name: file.name || "pasted.png", size: file.size, texture: 1, versions: [] }));
  if (!added.length) return;
  for (const item of added) addVersion(item, { preset: chosen.preset });
  items.push(...added);
  added.forEach(addThumbnail);
  if (!current) select(added[0]);
  upload();
}

/** The pictures among what was dropped, in folders too. */
async function walk(entries) {
  const found = [];
  for (const entry of entries) {
    if (entry.isFile) {
      found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
      continue;
    }
    const reader = entry.createReader();
    for (;;) {
      // A folder is told in parts.
      const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!part.length) break;
      const inside = await walk(part.filter((one) => one.isDirectory || PICTURE_NAME.test(one.name)));
      found.push(...inside.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true })));
    }
  }
  return found;
}

async function upload() {
  while (uploading < UPLOADS_AT_ONCE) {
    const version = items.filter((item) => item.file && !item.removed).map((item) => item.version).find((one) => !one.id && !one.refusal && !one.sending);
    if (!version) return;
    uploading++;
    send(version).finally(() => {
      uploading--;
      upload();
    });
  }
}

/** Have the server restore a picture: from the file that it has, or else from ours. */
async function send(version) {
  const { item } = version;
  version.sending = new AbortController();
  refresh(item);
  const kept = item.versions.find((one) => isDone(one));
  const path = kept ? `pictures/${kept.id}/again` : "pictures";
  try {
    const request = { method: "POST", body: kept ? undefined : item.file, query: version.choices, signal: version.sending.signal };
    const status = await askJson(path, request);
    if (!item.versions.includes(version)) {
      forget(status.id);
      return;
    }
    Object.assign(version, { id: status.id, status });
    save();
    poll();
  } catch (error) {
    // A server that is silent is asked again when it speaks.
    if (error.name !== "AbortError" && !(error instanceof Silence && item.file)) refuse(version, error);
  } finally {
    version.sending = null;
    refresh(item);
  }
}

const forget = (id) => ask(`pictures/${id}`, { method: "DELETE" }).catch(() => {});

function refuse(version, error) {
  const { item } = version;
  if (item.last && item.last !== version) {
    // There is a result already: it stays.
    drop(version);
    tell(`Not restored so: ${error.message}.`);
    return;
  }
  version.refusal = error.message;
  // What is wrong with a file stays wrong; what is wrong with the server may pass.
  version.passing = !(error instanceof Refusal) || error.status >= 500;
  version.id = null;
  announce(`${item.name} was refused: ${version.refusal}`);
  save();
}

/** Drop a version, and go back to the last one that was done. */
function drop(version) {
  const { item } = version;
  version.sending?.abort();
  if (version.id) forget(version.id);
  dropLayers(version);
  item.versions.splice(item.versions.indexOf(version), 1);
  if (item.last === version) item.last = item.versions.find(isDone) ?? null;
  if (item.version === version) item.version = item.last ?? item.versions[0];
  save();
  refresh(item);
}

/** Stop what is at work on a picture: it is as it was before, or gone where it was nothing yet. */
function cancel(item) {
  if (item.last && item.last !== item.version) drop(item.version);
  else remove(item);
}

function remove(item) {
  const index = items.indexOf(item);
  const lasting = isDone(shownOf(item));
  items.splice(index, 1);
  item.entry.remove();
  item.removed = true;
  save();
  if (current === item) select(items[Math.min(index, items.length - 1)] ?? null);
  refreshSaving();
  const end = () => {
    for (const version of item.versions) {
      version.sending?.abort();
      if (version.id) forget(version.id);
      dropLayers(version);
    }
  };
  if (!lasting) return end();
  tell(`${item.name} is removed.`, () => {
    item.removed = false;
    items.splice(index, 0, item);
    $("strip").insertBefore(item.entry, $("strip").children[index] ?? null);
    save();
    select(item);
    poll();
  }, end);
}

async function poll() {
  if (polling) return;
  polling = true;
  for (;;) {
    let pause = POLL_MS;
    const pending = versionsOf(items).filter((one) => one.id && !["done", "failed"].includes(one.status?.state)).slice(0, MOST_AT_ONCE);
    if (!pending.length) break;
    try {
      const { pictures } = await askJson("pictures", { query: { id: pending.map((version) => version.id) } });
      for (const version of pending) note(version, pictures.find((status) => status.id === version.id));
    } catch {
      pause = PAUSE_MS; // The server cannot be reached, or not just now.
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
  polling = false;
}

/** Take note of a version's status; none where the server does not know it any more. */
function note(version, status) {
  const { item } = version;
  if (!item.versions.includes(version) || (status && status.id !== version.id)) return;
  if (!status) {
    version.id = version.status = null;
    if (item.file) {
      if (item.version === version) upload();
      else drop(version);
    } else if (item.versions.length > 1) {
      drop(version);
    } else {
      tell(`${item.name} is not kept any more.`);
      version.status = null;
      remove(item);
    }
  } else {
    version.status = status;
    if (status.state === "failed") refuse(version, new Refusal(status.problem, status.problem.status));
    if (status.state === "done") {
      if (item.version === version) item.last = version;
      announce(`${item.name} is restored`);
    }
  }
  refresh(item);
}

function save() {
  const kept = items.map((item) => ({
    name: item.name,
    size: item.size,
    texture: item.texture,
    chosen: item.versions.indexOf(item.version),
    versions: item.versions.filter((one) => one.id).map(({ id, choices }) => ({ id, choices })),
  }));
  sessionStorage.setItem(SAVED, JSON.stringify(kept.filter((item) => item.versions.length).slice(-MOST_AT_ONCE)));
}

async function reopen() {
  const kept = JSON.parse(sessionStorage.getItem(SAVED) ?? "[]");
  if (!kept.length) return;
  const ids = kept.flatMap(({ versions }) => versions.map(({ id }) => id));
  const { pictures } = await askJson("pictures", { query: { id: ids.slice(0, MOST_AT_ONCE) } });
  for (const { name, size, texture, chosen: index, versions } of kept) {
    const item = { name, size, texture, versions: [] };
    for (const { id, choices } of versions) {
      const status = pictures.find((one) => one.id === id);
      if (status) item.versions.push({ id, choices, status, item });
    }
    if (!item.versions.length) continue;
    item.version = item.versions[index] ?? item.versions[0];
    item.last = isDone(item.version) ? item.version : item.versions.find(isDone) ?? null;
    items.push(item);
    addThumbnail(item);
    for (const version of [...item.versions]) {
      if (version.status.state === "failed") refuse(version, new Refusal(version.status.problem, version.status.problem.status));
    }
    refresh(item);
  }
  save();
  if (items.length) select(items[0]);
  poll();
}

/** Restore a picture in another way, or show it where that was done already. */
function choose(item, choices) {
  const wanted = { ...item.version.choices, ...choices };
  const same = (version) => ["preset", "force_quality", "as_is"].every((name) => String(version.choices[name] ?? "") === String(wanted[name] ?? ""));
  const known = item.versions.find(same);
  if (known === item.version) return;
  // What is on its way and not wanted any more is in the way.
  if (item.last && item.version !== item.last && !isDone(item.version)) drop(item.version);
  if (known && item.versions.includes(known)) {
    item.version = known;
    if (isDone(known)) item.last = known;
    save();
    refresh(item);
    return;
  }
  send(addVersion(item, wanted));
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

/** What is going on with a version, and the share of it that is done where that is known. */
function progressOf(version) {
  const { status } = version;
  if (version.refusal || status?.state === "done") return null;
  if (!status) return { text: version.sending ? "Sending" : "Waiting" };
  if (status.state === "waiting") return { text: "Waiting for its turn" };
  if (status.stage === "reading") return { text: "Reading the file" };
  if (status.stage === "finishing") return { text: "Preparing the view" };
  const { tiles_done: done, tiles_total: total } = status;
  return total ? { text: `Restoring, part ${Math.min(done + 1, total)} of ${total}`, share: done / total } : { text: "Restoring" };
}

function showProgress(bar, progress) {
  if (progress?.share === undefined) bar.removeAttribute("value");
  else bar.value = progress.share;
}

/** Bring everything that shows an item up to date. */
function refresh(item) {
  if (!items.includes(item)) return;
  const progress = progressOf(item.version);
  const thumb = item.entry.querySelector(".thumb");
  const refusal = shownOf(item).refusal;
  thumb.classList.toggle("pending", Boolean(progress));
  thumb.classList.toggle("failed", Boolean(refusal));
  thumb.title = refusal ? `${item.name}: ${refusal}` : item.name;
  const bar = thumb.querySelector("progress");
  bar.hidden = !progress;
  showProgress(bar, progress);
  if (!item.painted && item.version.status?.width) {
    item.painted = true;
    askBitmap(`pictures/${item.version.id}/layers/thumbnail`).then((bitmap) => paintThumbnail(item, bitmap), () => {});
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

function step(by) {
  const next = items[items.indexOf(current) + by];
  if (next) select(next);
}

function refreshCurrent() {
  const item = current;
  const shown = shownOf(item);
  const progress = progressOf(item.version);
  $("working").hidden = !progress;
  if (progress) {
    $("working-text").textContent = progress.text;
    showProgress($("working-bar"), progress);
  }
  $("refused").hidden = !shown.refusal;
  $("zoom").hidden = Boolean(shown.refusal);
  if (shown.refusal) {
    $("refused-title").textContent = `${item.name} was refused`;
    $("refused-text").textContent = sentence(shown.refusal);
    $("retry").hidden = !(item.file && shown.passing);
  }
  const done = isDone(shown);
  $("texture").disabled = $("texture-all").disabled = !done || !shown.status.changed;
  $("peek").hidden = !done || !shown.status.changed;
  for (const button of $("presets").children) {
    button.setAttribute("aria-pressed", String(button.value === item.version.choices.preset));
    button.disabled = Boolean(shown.refusal) || !(done || item.file);
  }
  $("as-is").disabled = !done;
  $("as-is-row").hidden = !shown.status?.facts?.earlier_compression;
  $("as-is").checked = Boolean(item.version.choices.as_is);
  refreshStrength(item, shown);
  $("previous").disabled = items[0] === item;
  $("next").disabled = items.at(-1) === item;
  $("previous").hidden = $("next").hidden = items.length < 2;
  refreshNotice(done ? shown.status : null);
  refreshFacts(item, shown);
  refreshFigures(item, shown);
  refreshSize();
  showLayers(shown);
}

/** The quality to restore by; the page without a server has no such choice. */
function refreshStrength(item, shown) {
  if (!$("strength-row")) return;
  const { force_quality: forced } = item.version.choices;
  const automatic = forced === undefined && !item.byHand;
  $("strength-row").hidden = !shown.status?.changed;
  $("automatic").disabled = !isDone(shown);
  $("automatic").checked = automatic;
  $("strength").disabled = automatic || !isDone(shown);
  $("strength").value = forced ?? shown.status?.facts?.quality ?? 50;
  $("strength-value").textContent = automatic ? "automatic" : $("strength").value;
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

/** Show as much of a version as there is: the file itself, as browsers show it; the decoded original; everything. */
async function showLayers(version) {
  const { item } = version;
  if (version.refusal || version.loading) return;
  const wanted = version.status?.state === "done" ? "all" : version.status?.width ? "original" : item.file ? "file" : null;
  if (!wanted) return;
  const showing = () => item === current && shownOf(item) === version;
  if (version.shown !== wanted || !version.layers) {
    version.loading = true;
    const reveal = version.shown && version.shown !== "all" && wanted === "all" && item.versions.length === 1;
    try {
      const layers = await load(version, wanted);
      dropLayers(version);
      Object.assign(version, { layers, shown: wanted });
      if (showing()) viewer.show(layers, version.status?.grid, reveal);
    } catch (error) {
      if (error.status === 404) note(version, undefined);
      else if (wanted !== "file" && !(error instanceof Silence)) throw error; // A format that this browser does not know: the server will show it.
      version.shown = error instanceof Silence ? null : wanted;
      version.layers ??= null;
    } finally {
      version.loading = false;
    }
    makeRoom();
    // It may have come further meanwhile.
    if (showing() && wanted !== "all" && version.status?.width) showLayers(version);
  } else if (viewer.layers !== version.layers) {
    viewer.show(version.layers, version.status?.grid);
  }
}

async function load(version, wanted) {
  if (wanted === "file") return { original: await createImageBitmap(version.item.file) };
  const layer = (name) => askBitmap(`pictures/${version.id}/layers/${name}`);
  if (wanted === "original") return { original: await layer("original") };
  if (!version.status.changed) return { original: await layer("original") };
  const [original, base, texture, mask] = await Promise.all(["original", "base", "texture", "mask"].map(layer));
  const colour = getComputedStyle(document.documentElement).getPropertyValue("--mask");
  const layers = { original, base, texture: cut(texture, mask), mask: tint(mask, colour) };
  texture.close();
  mask.close();
  return layers;
}

function dropLayers(version) {
  if (version.layers && viewer.layers === version.layers) viewer.layers = null;
  version.layers?.original.close();
  version.layers?.base?.close();
  version.layers = null;
}

function makeRoom() {
  const loaded = versionsOf(items).filter((version) => version.layers && version.item !== current);
  loaded.sort((a, b) => b.item.touched - a.item.touched).slice(PICTURES_IN_MEMORY - 1).forEach(dropLayers);
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
let sizeTimer;
let sizing;

function turnDial() {
  const amount = Number($("texture").value) / 100;
  for (const item of $("texture-all").checked ? items : [current]) item.texture = amount;
  setDial(amount);
  refreshFigures(current, shownOf(current));
  refreshSize();
  save();
}

async function askFigures(version) {
  const { id, item } = version;
  const { texture } = item;
  try {
    version.figures = await askJson(`pictures/${id}/figures`, { query: { texture } });
    if (item === current && shownOf(item) === version) refreshFigures(item, version);
  } catch (error) {
    if (error.status === 404) note(version, undefined);
  }
}

function refreshFigures(item, version) {
  const figures = version.figures ?? version.status?.figures;
  const stale = Boolean(figures) && version.status.changed && figures.texture !== item.texture;
  const show = (id, text) => {
    $(id).textContent = text;
    $(id).classList.toggle("stale", stale);
  };
  const restored = figures && version.status.changed && figures.consistency !== null;
  show("consistency", restored ? `${(Math.floor(figures.consistency * 10000) / 100).toFixed(2)} %` : "–");
  show("projection", !restored || figures.projection_psnr === undefined ? "–" : figures.projection_psnr === null ? "∞ dB" : `${figures.projection_psnr.toFixed(1)} dB`);
  clearTimeout(figuresTimer);
  if (stale) figuresTimer = setTimeout(askFigures, FIGURES_AFTER_MS, version);
}

/** How the result is to be written. */
function written(item) {
  const quality = chosen.quality[chosen.format] || undefined;
  return { texture: item.texture, format: chosen.format, quality };
}

/** Tell the size of what would be saved; the server keeps what it made to find out, so that saving is quick. */
function refreshSize() {
  clearTimeout(sizeTimer);
  sizing?.abort();
  const version = current && shownOf(current);
  $("size").textContent = "";
  if (!version || !isDone(version)) return;
  $("size").textContent = "…";
  sizeTimer = setTimeout(async () => {
    sizing = new AbortController();
    try {
      const answer = await ask(`pictures/${version.id}/result`, { method: "HEAD", query: written(version.item), signal: sizing.signal });
      $("size").textContent = `${bytes(Number(answer.headers.get("Content-Length")))}; the file has ${bytes(version.item.size)}`;
    } catch (error) {
      if (error.name !== "AbortError") $("size").textContent = "";
    }
  }, SIZE_AFTER_MS);
}

const UNITS = ["bytes", "kB", "MB", "GB"];

function bytes(count) {
  const power = count < 1000 ? 0 : Math.min(Math.floor(Math.log10(count) / 3), UNITS.length - 1);
  return `${(count / 1000 ** power).toFixed(power ? 1 : 0)} ${UNITS[power]}`;
}

function refreshFacts(item, version) {
  const facts = version.status?.facts;
  const described = `${version.id ?? item.name} ${Boolean(facts)}`;
  if ($("facts").dataset.of === described) return;
  $("facts").dataset.of = described;
  const fit = facts?.quality_fit === undefined || facts.quality_fit === 1 ? "" : "about ";
  const rows = {
    Name: item.name,
    Size: bytes(item.size),
    Format: facts?.format,
    Pixels: facts && `${facts.width} × ${facts.height}`,
    Quality: facts?.quality && `${fit}${facts.quality}`,
    Colours: facts && [facts.colour_model, facts.subsampling].filter((part) => part && part !== "gray").join(" ") || facts && "gray",
    Metadata: facts && (facts.metadata.map((name) => METADATA[name] ?? name).join(", ") || "none"),
    "Compressed before": facts?.earlier_compression ?? (facts && (facts.earlier_compression === null ? "no sign of it" : "not looked for")),
  };
  $("facts").replaceChildren(...Object.entries(rows).map(([name, value]) => row(name, value || "–")));
  const tables = facts ? [["Luma", facts.luma_table], ["Chroma", facts.chroma_table]].filter(([, table]) => table) : [];
  $("tables-body").replaceChildren(...tables.map(([name, steps]) => table(name, steps)));
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
  const body = steps.map((line) => element("tr", null, ...line.map((value) => {
    const cell = element("td", value);
    cell.style.setProperty("--share", `${Math.round((value / most) * 40)}%`);
    return cell;
  })));
  return element("table", null, element("caption", name), element("tbody", null, ...body));
}

function announce(text) {
  $("said").textContent = text;
}

let toast;

/**
 * Say something in passing.
 * @param undo offered while it is there
 * @param end called when it goes and nothing was undone
 */
function tell(text, undo, end) {
  toast?.();
  const timer = setTimeout(() => toast(), UNDO_MS);
  toast = () => {
    clearTimeout(timer);
    toast = null;
    $("toast").hidden = true;
    end?.();
  };
  $("toast-text").textContent = text;
  $("undo").hidden = !undo;
  $("undo").onclick = () => {
    end = undo;
    toast();
  };
  $("toast").hidden = false;
}

// ---------------------------------------------------------------- saving

function refreshSaving() {
  const done = items.filter((item) => isDone(shownOf(item)));
  $("save").disabled = !current || !isDone(shownOf(current)) || $("save").dataset.busy === "true";
  $("save-all").disabled = done.length < 2 || $("save-all").dataset.busy === "true";
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
    tell(sentence(`not saved: ${error.message}`));
  } finally {
    button.dataset.busy = "false";
    button.textContent = label;
    refreshSaving();
  }
}

function saveCurrent() {
  const { name } = current;
  const { id } = shownOf(current);
  const query = written(current);
  const stem = name.replace(/\.[^.]*$/, "") || name;
  saving($("save"), `${stem}.redecoded${FORMATS[query.format].suffix}`, () => ask(`pictures/${id}/result`, { query }));
}

function saveAll() {
  const done = items.filter((item) => isDone(shownOf(item)));
  const pictures = done.map((item) => ({ id: shownOf(item).id, name: item.name.slice(-200), texture: item.texture }));
  const quality = Number(chosen.quality[chosen.format]) || undefined;
  saving($("save-all"), "redecode.zip", () => ask("archives", { method: "POST", json: { pictures, format: chosen.format, quality } }));
}

function offerQualities() {
  const offered = FORMATS[chosen.format].qualities;
  $("quality").replaceChildren(...offered.map(([value, text]) => Object.assign(element("option", text), { value })));
  $("quality").value = chosen.quality[chosen.format] ?? "";
  $("quality").disabled = offered.length < 2;
}

// ---------------------------------------------------------------- wiring

function listen() {
  for (const id of ["choose", "add"]) $(id).addEventListener("click", () => $("files").click());
  $("files").addEventListener("change", () => {
    open($("files").files);
    $("files").value = "";
  });
  for (const button of document.querySelectorAll("[data-sample]")) button.addEventListener("click", () => openSample(button.dataset.sample));
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
  addEventListener("drop", async (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    $("drop").hidden = true;
    const entries = [...event.dataTransfer.items].map((one) => one.webkitGetAsEntry?.()).filter(Boolean);
    const files = event.dataTransfer.files;
    open(entries.some((entry) => entry.isDirectory) ? await walk(entries) : files);
  });
  $("texture").addEventListener("input", turnDial);
  $("save").addEventListener("click", saveCurrent);
  $("save-all").addEventListener("click", saveAll);
  $("cancel").addEventListener("click", () => cancel(current));
  $("dismiss").addEventListener("click", () => remove(current));
  $("retry").addEventListener("click", () => {
    const version = shownOf(current);
    version.refusal = version.status = null;
    refresh(current);
    upload();
  });
  $("as-is").addEventListener("change", () => choose(current, { as_is: $("as-is").checked || undefined, force_quality: undefined }));
  $("automatic")?.addEventListener("change", () => {
    current.byHand = !$("automatic").checked;
    if ($("automatic").checked) choose(current, { force_quality: undefined });
    refreshStrength(current, shownOf(current));
  });
  $("strength")?.addEventListener("input", () => ($("strength-value").textContent = $("strength").value));
  $("strength")?.addEventListener("change", () => choose(current, { force_quality: Number($("strength").value), as_is: undefined }));
  $("force").addEventListener("submit", (event) => {
    event.preventDefault();
    choose(current, { force_quality: $("force-quality").value });
  });
  if (!(chosen.format in FORMATS)) chosen.format = "png";
  $("format").replaceChildren(...Object.entries(FORMATS).map(([value, { name }]) => Object.assign(element("option", name), { value })));
  $("format").value = chosen.format;
  offerQualities();
  $("format").addEventListener("change", () => {
    remember({ format: $("format").value });
    offerQualities();
    refreshSize();
  });
  $("quality").addEventListener("change", () => {
    remember({ quality: { ...chosen.quality, [chosen.format]: $("quality").value } });
    refreshSize();
  });
  $("zoom-in").addEventListener("click", () => viewer.zoomStep(true));
  $("zoom-out").addEventListener("click", () => viewer.zoomStep(false));
  $("zoom-fit").addEventListener("click", () => viewer.fit());
  $("zoom-actual").addEventListener("click", () => viewer.zoomTo(1));
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("peek").addEventListener("pointerdown", () => peek(true));
  for (const kind of ["pointerup", "pointercancel", "blur"]) addEventListener(kind, () => peek(false));
  for (const button of document.querySelectorAll("[data-overlay]")) button.addEventListener("click", () => toggle(button));
  addEventListener("keydown", press);
  addEventListener("keyup", (event) => {
    if (event.key === "o" || event.key === " " || event.key === "Enter") peek(false);
  });
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || !current || $("asking").open) return;
  if (event.target.matches("input:not([type=range]):not([type=checkbox]), select")) return;
  if (event.target === $("peek") && (event.key === " " || event.key === "Enter")) return peek(true);
  const button = document.querySelector(`[data-overlay][aria-keyshortcuts="${CSS.escape(event.key.toLowerCase())}"]`);
  const elsewhere = event.target.matches("input, summary, canvas, [role=slider]");
  if (button) toggle(button);
  else if (event.key === "o") peek(true);
  else if (["+", "=", "-", "0", "1"].includes(event.key)) viewer.key(event);
  else if (event.key === "Delete") remove(current);
  else if (event.key === "ArrowLeft" && !elsewhere) step(-1);
  else if (event.key === "ArrowRight" && !elsewhere) step(1);
}

function peek(on) {
  viewer.peek(on);
  $("peek").classList.toggle("held", on);
}

function toggle(button) {
  const on = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(on));
  viewer.toggle(button.dataset.overlay, on);
}

async function openSample(name) {
  const answer = await fetch(new URL(`page/${name}`, document.baseURI));
  open([new File([await answer.blob()], name, { type: "image/jpeg" })]);
}

async function offerPresets() {
  const { presets } = await askJson("presets");
  if (!presets.some(({ name }) => name === chosen.preset)) chosen.preset = presets.find((preset) => preset.default).name;
  $("presets").replaceChildren(...presets.map(({ name }) => {
    const button = Object.assign(element("button", PRESETS[name] ?? name), { type: "button", value: name });
    button.addEventListener("click", () => {
      remember({ preset: name });
      choose(current, { preset: name });
    });
    return button;
  }));
  $("preset-row").hidden = presets.length < 2;
}

/** Tell within seconds that the server is gone, and go on when it is back. */
function watchServer() {
  onSilence((silent) => {
    $("silence").hidden = !silent;
    if (!silent && current) {
      upload();
      poll();
      refreshCurrent();
    }
  });
  setInterval(() => {
    if (!document.hidden) knock();
  }, KNOCK_EVERY_MS);
}

listen();
watchServer();
await offerPresets();
await reopen();
document.documentElement.dataset.ready = "true";
