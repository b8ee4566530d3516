// A JPEG's quantized coefficients, as the file holds them: Huffman-coded, 8 bits, sequential or progressive (ITU-T T.81).

const MAX_PIXELS = 100e6;
const MAX_VISITS = 1 << 27; // Of blocks, in all scans: what no encoder writes is refused.

/** What is wrong with a file, in a sentence. */
export class Unreadable extends Error {}

// Bytes behind the last block of a scan that are no sign yet that blocks went missing before.
const MAX_LEFT_OVER = 4;

// Where the numbers of a zigzag belong in a block.
const NATURAL = (() => {
  const order = new Uint8Array(64 + 16).fill(63); // Damaged runs may end beyond the block.
  for (let sum = 0, at = 0; sum < 15; sum++) {
    const first = Math.max(0, sum - 7), last = Math.min(7, sum);
    for (let i = first; i <= last; i++) {
      const row = sum % 2 ? i : sum - i;
      order[at++] = row * 8 + (sum - row);
    }
  }
  return order;
})();

class Corrupt extends Error {}

/** Bits of entropy-coded data; after its end, zeros. */
class Bits {
  constructor(data, at) {
    this.data = data;
    this.at = at;
    this.restart();
  }

  restart() {
    this.held = 0;
    this.count = 0;
    this.missing = 0; // Bits that were made up.
  }

  fill() {
    while (this.count <= 16) {
      let byte = this.data[this.at];
      if (byte === undefined || (byte === 0xff && this.data[this.at + 1] !== 0)) {
        byte = 0;
        this.missing += 8;
      } else {
        this.at += byte === 0xff ? 2 : 1;
      }
      this.held = ((this.held << 8) | byte) & 0xffffffff;
      this.count += 8;
    }
  }

  peek(length) {
    if (this.count < length) this.fill();
    return (this.held >>> (this.count - length)) & ((1 << length) - 1);
  }

  read(length) {
    if (!length) return 0;
    const value = this.peek(length);
    this.count -= length;
    return value;
  }

  /** A signed number of so many bits (T.81, F.2.2.1). */
  signed(length) {
    const value = this.read(length);
    return length && value < 1 << (length - 1) ? value - (1 << length) + 1 : value;
  }

  /** Bytes that were not read, up to a place; those of 0 may be padding. */
  leftOver(end) {
    const first = Math.max(0, this.at - Math.max(0, (this.count - this.missing) >> 3));
    let bytes = 0;
    for (let at = first; at < end; at++) if (this.data[at] && !(this.data[at] === 0xff && this.data[at + 1] === 0xff)) bytes++;
    return bytes;
  }

  /** Whether more was read than there is. */
  get over() {
    return this.missing > this.count;
  }
}

/** A Huffman table: for each 16 bits that come, the length of the code that they begin with, and what it stands for. */
class Huffman {
  constructor(counts, values) {
    this.lookup = new Uint16Array(1 << 16);
    let code = 0, index = 0;
    for (let length = 1; length <= 16; length++) {
      for (let i = 0; i < counts[length - 1]; i++, code++, index++) {
        if (code >= 1 << length || index >= values.length) throw new Corrupt();
        this.lookup.fill((length << 8) | values[index], code << (16 - length), (code + 1) << (16 - length));
      }
      code <<= 1;
    }
  }

  read(bits) {
    const found = this.lookup[bits.peek(16)];
    if (!found) throw new Corrupt();
    bits.count -= found >> 8;
    return found & 255;
  }
}

const REFUSED = {
  0xc3: "lossless", 0xc5: "hierarchical", 0xc6: "hierarchical", 0xc7: "hierarchical", 0xc9: "arithmetic", 0xca: "arithmetic",
  0xcb: "lossless", 0xcd: "hierarchical", 0xce: "hierarchical", 0xcf: "hierarchical",
};

/**
 * Read a file.
 * @param {Uint8Array} data
 * @returns width, height, progressive, damaged, trailing (bytes after the picture), colourModel, segments ([marker, content] of APPn and COM), and
 *   components: each with sampling (h, v), rows and columns of blocks in coefficients (Int16Array, natural order; filled up as the graph wants
 *   them), ownRows and ownColumns of those that the picture has, and table (Uint16Array).
 * @throws {Unreadable}
 */
export function read(data) {
  if (data[0] !== 0xff || data[1] !== 0xd8) throw new Unreadable("this is not a JPEG, and this page restores JPEGs only");
  const file = { segments: [], progressive: false, damaged: false, trailing: 0, components: null, interval: 0 };
  const tables = { steps: [], dc: [], ac: [] };
  let at = 2, visits = 0, ended = false;
  while (at < data.length && !ended) {
    if (data[at] !== 0xff) {
      at++; // Fill bytes, or rubbish between segments.
      continue;
    }
    const marker = data[at + 1];
    if (marker === 0xff) {
      at++;
      continue;
    }
    at += 2;
    if (marker === 0xd9) ended = true;
    if (marker === undefined || marker === 0 || marker === 1 || (marker >= 0xd0 && marker <= 0xd9)) continue;
    const length = (data[at] << 8) | data[at + 1];
    if (!(length >= 2) || at + length > data.length) break;
    const segment = data.subarray(at + 2, at + length);
    at += length;
    if (marker === 0xc4) readHuffman(segment, tables, file);
    else if (marker === 0xdb) readSteps(segment, tables.steps);
    else if (marker === 0xdd) file.interval = (segment[0] << 8) | segment[1];
    else if (marker === 0xfe || (marker >= 0xe0 && marker <= 0xef)) file.segments.push([marker, segment]);
    else if (marker in REFUSED) throw new Unreadable(`this JPEG's coding (${REFUSED[marker]}) is not one that this page reads`);
    else if (marker >= 0xc0 && marker <= 0xc2) {
      if (file.components) throw new Unreadable("the file holds two pictures in one, which this page does not read");
      readFrame(segment, file, marker === 0xc2);
    } else if (marker === 0xda) {
      if (!file.components) throw new Unreadable("the file is damaged: its picture data come before its header");
      const scan = readScan(segment, file, tables);
      visits += scan.blocks;
      if (visits > MAX_VISITS) throw new Unreadable("the file has far more scans than any encoder writes for so large a picture");
      at = decodeScan(data, at, file, scan);
    }
  }
  if (!file.components) throw new Unreadable("the file is damaged before anything can be shown");
  let last = data.length;
  while (last > at && data[last - 1] === 0) last--;
  file.trailing = ended ? last - at : 0;
  file.damaged ||= !ended || file.components.some((component) => !component.table);
  for (const component of file.components) finish(component);
  file.colourModel = colourModel(file);
  return file;
}

/** The tables of a segment; without one that is damaged, what is coded by it stays as it is. */
function readHuffman(segment, tables, file) {
  for (let at = 0; at + 17 <= segment.length; ) {
    const counts = segment.subarray(at + 1, at + 17);
    const total = counts.reduce((sum, count) => sum + count, 0);
    const kind = segment[at] >> 4 ? tables.ac : tables.dc;
    try {
      kind[segment[at] & 15] = new Huffman(counts, segment.subarray(at + 17, at + 17 + total));
    } catch (error) {
      if (!(error instanceof Corrupt)) throw error;
      file.damaged = true;
      kind[segment[at] & 15] = null;
    }
    at += 17 + total;
  }
}

function readSteps(segment, steps) {
  for (let at = 0; at < segment.length; ) {
    const [wide, index] = [segment[at] >> 4, segment[at] & 15];
    at++;
    const table = new Uint16Array(64);
    for (let k = 0; k < 64; k++, at += wide ? 2 : 1) table[NATURAL[k]] = wide ? (segment[at] << 8) | segment[at + 1] : segment[at];
    steps[index] = table;
  }
}

const whole = (length, unit) => Math.ceil(length / unit) * unit;

function readFrame(segment, file, progressive) {
  const height = (segment[1] << 8) | segment[2], width = (segment[3] << 8) | segment[4], count = segment[5];
  if (segment[0] !== 8) throw new Unreadable(`this JPEG has ${segment[0]} bits per sample; this page reads those of 8`);
  if (!width || !height) throw new Unreadable("the file's header tells no size");
  if (width * height > MAX_PIXELS) throw new Unreadable(`the header claims ${width}×${height} pixels, over the limit of ${MAX_PIXELS / 1e6} megapixels`);
  if (![1, 3].includes(count)) throw new Unreadable(`this JPEG has ${count} components; this page reads gray and YCbCr-coded ones`);
  const components = [];
  for (let i = 0; i < count; i++) {
    const [id, sampling, index] = segment.subarray(6 + 3 * i, 9 + 3 * i);
    components.push({ id, h: sampling >> 4, v: sampling & 15, index });
  }
  const hMax = Math.max(...components.map(({ h }) => h)), vMax = Math.max(...components.map(({ v }) => v));
  const odd = ({ h, v }) => !(h >= 1 && h <= 4 && v >= 1 && v <= 4) || hMax % h || vMax % v;
  if (components.some(odd) || components[0].h !== hMax || components[0].v !== vMax) {
    throw new Unreadable("this JPEG's chroma subsampling is not one that this page restores");
  }
  if (count === 1) components[0].h = components[0].v = 1; // One component's blocks come one by one.
  const [hUnit, vUnit] = count === 1 ? [1, 1] : [hMax, vMax];
  const even = (most) => (most % 2 ? 2 * most : most);
  const mcuRows = Math.ceil(height / (8 * vUnit)), mcuColumns = Math.ceil(width / (8 * hUnit));
  const rows = whole(Math.ceil(height / 8), even(vUnit)), columns = whole(Math.ceil(width / 8), even(hUnit));
  for (const component of components) {
    const { h, v } = component;
    component.ownRows = Math.ceil(Math.ceil((height * v) / vUnit) / 8);
    component.ownColumns = Math.ceil(Math.ceil((width * h) / hUnit) / 8);
    component.rows = (rows * v) / vUnit;
    component.columns = (columns * h) / hUnit;
    component.coefficients = new Int16Array(component.rows * component.columns * 64);
  }
  Object.assign(file, { width, height, progressive, components, mcuRows, mcuColumns });
}

function readScan(segment, file, tables) {
  const parts = [];
  for (let i = 0; i < segment[0]; i++) {
    const component = file.components.find(({ id }) => id === segment[1 + 2 * i]) ?? file.components[i];
    if (!component) throw new Unreadable("the file is damaged: a scan is of a component that it does not have");
    component.table ??= tables.steps[component.index]?.slice();
    parts.push({ component, dc: tables.dc[segment[2 + 2 * i] >> 4], ac: tables.ac[segment[2 + 2 * i] & 15], predicted: 0 });
  }
  const [first, last, bits] = segment.subarray(1 + 2 * segment[0]);
  const scan = { parts, first, last, high: bits >> 4, low: bits & 15 };
  if (!file.progressive) Object.assign(scan, { first: 0, last: 63, high: 0, low: 0 });
  if (!parts.length || last > 63 || first > last || (first && parts.length > 1)) {
    throw new Unreadable("the file is damaged: a scan makes no sense");
  }
  const single = parts.length === 1;
  scan.units = single
    ? parts[0].component.ownRows * parts[0].component.ownColumns
    : file.mcuRows * file.mcuColumns;
  scan.blocks = scan.units * (single ? 1 : parts.reduce((sum, { component: { h, v } }) => sum + h * v, 0));
  scan.decode = decoderOf(file.progressive, scan);
  return scan;
}

function decoderOf(progressive, scan) {
  if (!progressive) return sequential;
  if (scan.first === 0) return scan.high ? refineDc : firstDc;
  return scan.high ? refineAc : firstAc;
}

/** Decode a scan; gives where it ends. What is corrupt stays as it is, up to the next restart marker. */
function decodeScan(data, at, file, scan) {
  const bits = new Bits(data, at);
  const interval = file.interval || scan.units;
  let next = 0;
  for (let first = 0; first < scan.units; first += interval) {
    const last = Math.min(first + interval, scan.units);
    for (const part of scan.parts) part.predicted = 0;
    scan.run = 0;
    bits.restart();
    try {
      for (let unit = first; unit < last; unit++) {
        decodeUnit(bits, unit, file, scan);
        if (bits.over) throw new Corrupt();
      }
    } catch (error) {
      if (!(error instanceof Corrupt)) throw error;
      file.damaged = true;
    }
    // To the next marker: it is a restart marker, or the scan's end.
    let end = bits.at;
    while (end < data.length && !(data[end] === 0xff && data[end + 1] !== 0 && data[end + 1] !== 0xff)) end++;
    file.damaged ||= bits.leftOver(end) > MAX_LEFT_OVER;
    const marker = data[end + 1];
    if (last === scan.units || !(marker >= 0xd0 && marker <= 0xd7)) {
      if (last !== scan.units) file.damaged = true;
      return skipRestarts(data, end);
    }
    if (marker !== 0xd0 + next) file.damaged = true;
    next = (next + 1) % 8;
    bits.at = end + 2;
  }
  return bits.at;
}

function skipRestarts(data, at) {
  while (at < data.length && data[at] === 0xff && data[at + 1] >= 0xd0 && data[at + 1] <= 0xd7) {
    at += 2;
    while (at < data.length && !(data[at] === 0xff && data[at + 1] !== 0 && data[at + 1] !== 0xff)) at++;
  }
  return at;
}

function decodeUnit(bits, unit, file, scan) {
  if (scan.parts.length === 1) {
    const [part] = scan.parts;
    const { ownColumns, columns } = part.component;
    const row = Math.floor(unit / ownColumns);
    scan.decode(bits, part, (row * columns + (unit - row * ownColumns)) * 64, scan);
    return;
  }
  const row = Math.floor(unit / file.mcuColumns), column = unit - row * file.mcuColumns;
  for (const part of scan.parts) {
    const { h, v, columns } = part.component;
    for (let y = 0; y < v; y++) for (let x = 0; x < h; x++) scan.decode(bits, part, ((row * v + y) * columns + column * h + x) * 64, scan);
  }
}

const known = (table) => {
  if (!table) throw new Corrupt();
  return table;
};

function sequential(bits, part, at, _) {
  const { coefficients } = part.component;
  part.predicted += bits.signed(known(part.dc).read(bits) & 15);
  coefficients[at] = part.predicted;
  const ac = known(part.ac);
  for (let k = 1; k < 64; k++) {
    const symbol = ac.read(bits), size = symbol & 15;
    k += symbol >> 4;
    if (size) coefficients[at + NATURAL[k]] = bits.signed(size);
    else if (symbol !== 0xf0) break;
  }
}

function firstDc(bits, part, at, scan) {
  part.predicted += bits.signed(known(part.dc).read(bits) & 15);
  part.component.coefficients[at] = part.predicted << scan.low;
}

function refineDc(bits, part, at, scan) {
  if (bits.read(1)) part.component.coefficients[at] |= 1 << scan.low;
}

function firstAc(bits, part, at, scan) {
  if (scan.run) {
    scan.run--;
    return;
  }
  const { coefficients } = part.component;
  const ac = known(part.ac);
  for (let k = scan.first; k <= scan.last; k++) {
    const symbol = ac.read(bits), run = symbol >> 4, size = symbol & 15;
    if (size) {
      k += run;
      coefficients[at + NATURAL[k]] = bits.signed(size) << scan.low;
    } else if (run < 15) {
      scan.run = (1 << run) - 1 + bits.read(run);
      return;
    } else k += 15;
  }
}

/** T.81, G.1.2.3: what is not zero gets another bit, and what becomes so now is placed among the zeros. */
function refineAc(bits, part, at, scan) {
  const { coefficients } = part.component;
  const plus = 1 << scan.low, minus = -1 << scan.low;
  const refine = (place) => {
    if (bits.read(1) && !(coefficients[place] & plus)) coefficients[place] += coefficients[place] > 0 ? plus : minus;
  };
  let k = scan.first;
  if (!scan.run) {
    const ac = known(part.ac);
    for (; k <= scan.last; k++) {
      const symbol = ac.read(bits);
      let zeros = symbol >> 4, value = 0;
      if (symbol & 15) value = bits.read(1) ? plus : minus;
      else if (zeros < 15) {
        scan.run = (1 << zeros) + bits.read(zeros);
        break;
      }
      for (; k <= scan.last; k++) {
        const place = at + NATURAL[k];
        if (coefficients[place]) refine(place);
        else if (zeros-- === 0) break;
      }
      if (value && k <= scan.last) coefficients[at + NATURAL[k]] = value;
    }
  }
  if (scan.run) {
    for (; k <= scan.last; k++) if (coefficients[at + NATURAL[k]]) refine(at + NATURAL[k]);
    scan.run--;
  }
}

/** A step of 0 makes nothing of a coefficient: the same as a coefficient of 0 with any step. */
function finish(component) {
  component.table ??= new Uint16Array(64).fill(1);
  const { table, coefficients } = component;
  for (let k = 0; k < 64; k++) {
    if (table[k]) continue;
    table[k] = 1;
    for (let at = k; at < coefficients.length; at += 64) coefficients[at] = 0;
  }
}

/** By the rules of libjpeg. */
function colourModel(file) {
  if (file.components.length === 1) return "gray";
  const starts = (segment, text) => [...text].every((letter, i) => segment[i] === letter.charCodeAt(0));
  const has = (marker, text) => file.segments.find(([own, segment]) => own === marker && starts(segment, text))?.[1];
  if (has(0xe0, "JFIF\0")) return "YCbCr";
  const adobe = has(0xee, "Adobe");
  if (adobe) return adobe[11] === 0 ? "RGB" : "YCbCr";
  return String.fromCharCode(...file.components.map(({ id }) => id)) === "RGB" ? "RGB" : "YCbCr";
}
