// Restores pictures, away from the page's own thread. Answers calls [number, method, ...arguments], and tells of pictures' states.

import * as ort from "./ort/ort.js";
import { Unreadable, read } from "./jpeg.js";
import { Picture } from "./picture.js";
import { Metadata } from "./metadata.js";
import { facts } from "./facts.js";
import { upright } from "./upright.js";
import { encode } from "./encode.js";
import { zip } from "./zip.js";

const here = (path) => new URL(path, import.meta.url).href;
const about = await (await fetch(here("about.json"))).json();

ort.env.wasm.wasmPaths = { mjs: here("ort/ort-wasm.js"), wasm: here("ort/ort-wasm.wasm") };
// Threads need memory that they share, which browsers give to pages that are isolated from others: see service-worker.js.
ort.env.wasm.numThreads = crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;

const pictures = new Map();
const graphs = new Map();

/** A graph, loaded when it is asked for first. What is in it was optimised when the page was built. */
function graph(name) {
  if (!graphs.has(name)) {
    const loading = fetch(here(`models/${name}.onnx`)).then(async (answer) => {
      if (!answer.ok) throw new Error(`the networks cannot be loaded (${answer.status})`);
      const model = new Uint8Array(await answer.arrayBuffer());
      return ort.InferenceSession.create(model, { executionProviders: ["wasm"], graphOptimizationLevel: "disabled", logSeverityLevel: 3 });
    });
    loading.catch(() => graphs.delete(name));
    graphs.set(name, loading);
  }
  return graphs.get(name);
}

let turn = Promise.resolve();

/**
 * Run a graph, one at a time; between two runs the worker listens.
 * @param wanted throws where the result is not wanted any more
 */
function running(name, wanted = () => {}) {
  return (inputs) => {
    const run = async () => {
      wanted();
      const session = await graph(name);
      const feeds = {};
      for (const input of session.inputNames) feeds[input] = new ort.Tensor(inputs[input].type, inputs[input].data, inputs[input].dims);
      const found = await session.run(feeds);
      await new Promise((resolve) => setTimeout(resolve));
      return found;
    };
    const mine = turn.then(run);
    turn = mine.catch(() => {});
    return mine;
  };
}

class Gone extends Error {}

const dropped = new Set();

const pictureOf = (id) => {
  const entry = pictures.get(id);
  if (!entry) throw new Gone();
  return entry;
};

const AWAKE = 2; // Pictures whose coefficients are kept in memory.
let awake = [];

/** Have a picture's coefficients in memory; those of the ones that were used least lately give way, and are read from their files again. */
async function wake(picture, blob) {
  const { components } = picture.file;
  if (!components[0].coefficients) {
    const again = read(new Uint8Array(await blob.arrayBuffer()));
    again.components.forEach(({ coefficients }, i) => (components[i].coefficients = coefficients));
  }
  awake = [picture, ...awake.filter((one) => one !== picture)];
  for (const one of awake.splice(AWAKE)) for (const component of one.file.components) component.coefficients = null;
}

let queue = Promise.resolve();

const methods = {
  /** Restore a file: told as "state" messages. */
  open(id, blob, preset) {
    const entry = { id, blob, preset };
    pictures.set(id, entry);
    queue = queue.then(() => work(entry));
  },

  again(id, old, preset) {
    methods.open(id, pictureOf(old).blob, preset);
  },

  forget(id) {
    awake = awake.filter((one) => one !== pictures.get(id)?.picture);
    pictures.delete(id);
  },

  async layer(id, name) {
    const { blob, metadata, picture } = pictureOf(id);
    if (name === "original" || name === "thumbnail") return createImageBitmap(blob, { colorSpaceConversion: "none" });
    const { width, height } = picture.file;
    const pixels = new ImageData(width, height);
    if (name === "mask") await picture.masks((tile, where) => paint(pixels, tile, (at) => where[at] && WHITE));
    else {
      const amount = name === "base" ? 0 : 1;
      await picture.finish(running("finish"), amount, (tile, colours) => paint(pixels, tile, (at) => colours.subarray(at * 3, at * 3 + 3)));
    }
    return upright(pixels, metadata.orientation);
  },

  /** Leave off what has this number. */
  drop(number) {
    dropped.add(number);
  },

  async figures(id, texture, wanted) {
    const { picture } = pictureOf(id);
    let total = 0;
    await picture.finish(running("finish", wanted), texture, (_, __, contradicting) => void (total += contradicting));
    return { texture, consistency: 1 - total / picture.blockCount, projection_psnr: undefined };
  },

  async result(id, choices, wanted) {
    const { picture, metadata } = pictureOf(id);
    return encode(picture, metadata, running("finish", wanted), choices);
  },

  async archive(pictures, choices, wanted) {
    const files = [];
    for (const { id, name, texture } of pictures) files.push({ name, blob: await methods.result(id, { ...choices, texture }, wanted) });
    return zip(files);
  },
};

async function work(entry) {
  const { id, blob, preset } = entry;
  const tell = (state) => postMessage({ id, state });
  const present = () => {
    if (pictures.get(id) !== entry) throw new Gone();
  };
  try {
    present();
    tell({ state: "working", stage: "reading" });
    const file = read(new Uint8Array(await blob.arrayBuffer()));
    if (!["gray", "YCbCr"].includes(file.colourModel)) {
      throw new Unreadable(`this JPEG is ${file.colourModel}-coded; this page restores gray and YCbCr-coded ones`);
    }
    entry.metadata = new Metadata(file.segments);
    entry.picture = new Picture(file, about, () => wake(entry.picture, blob));
    const turned = entry.metadata.orientation > 4;
    const [width, height] = turned ? [file.height, file.width] : [file.width, file.height];
    const told = { facts: facts(file, entry.metadata, about.steps), grid: grid(file, entry.metadata.orientation) };
    tell({ state: "working", stage: "restoring", width, height, ...told });
    await entry.picture.restore(running(`${preset}-layers`), about.halo[preset], (done, total) => {
      present();
      tell({ state: "working", stage: "restoring", tiles_done: done, tiles_total: total });
    });
    tell({ state: "done", changed: true, figures: await methods.figures(id, 1) });
  } catch (error) {
    if (error instanceof Gone) return;
    const known = error instanceof Unreadable;
    if (!known) console.warn(error);
    const detail = known ? error.message : `it went wrong: ${error.message}`;
    tell({ state: "failed", problem: { code: known ? "unreadable" : "failure", detail, status: known ? 422 : 500 } });
  }
}

/** Where the block grid begins, seen upright. */
function grid({ width, height }, orientation) {
  const [right, bottom] = [width % 8, height % 8];
  const x = [2, 3].includes(orientation) ? right : [6, 7].includes(orientation) ? bottom : 0;
  const y = [3, 4].includes(orientation) ? bottom : [7, 8].includes(orientation) ? right : 0;
  return [x, y];
}

const WHITE = [255, 255, 255];

/** Write a tile into the whole: the colour of each of its pixels, or nothing. */
function paint(image, { row, column }, colour) {
  for (let y = row.first, from = 0; y < row.last; y++) {
    for (let x = column.first, to = (y * image.width + x) * 4; x < column.last; x++, from++, to += 4) {
      const found = colour(from);
      if (!found) continue;
      image.data.set(found, to);
      image.data[to + 3] = 255;
    }
  }
}

addEventListener("message", async ({ data: [number, method, ...choices] }) => {
  const wanted = () => {
    if (dropped.has(number)) throw new Error("it was not wanted any more");
  };
  try {
    const result = await methods[method](...choices, wanted);
    postMessage({ number, result }, result instanceof ImageBitmap ? [result] : []);
  } catch (error) {
    postMessage({ number, failure: error instanceof Gone ? null : error.message });
  } finally {
    dropped.delete(number);
  }
});
postMessage({ ready: true });
