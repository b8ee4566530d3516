// A result as a file: PNG by ourselves, exact and strip by strip; JPEG and WebP by the browser, with the metadata put in.

import { concatenated } from "./metadata.js";
import { crc32 } from "./zip.js";

const TYPES = { jpeg: "image/jpeg", webp: "image/webp" };
const LATIN = new TextEncoder();

/**
 * @param choices texture; format: png, jpeg or webp; quality of the last two
 * @returns {Promise<Blob>}
 */
export function encode(picture, metadata, run, { texture, format, quality }) {
  return format === "png" ? png(picture, metadata, run, texture) : throughCanvas(picture, metadata, run, texture, TYPES[format], quality);
}

// ---------------------------------------------------------------- PNG

async function png(picture, metadata, run, texture) {
  const { width, height, components } = picture.file;
  const channels = components.length === 1 ? 1 : 3;
  const compressing = new CompressionStream("deflate");
  const compressed = new Response(compressing.readable).blob();
  const writer = compressing.writable.getWriter();
  let strip = null;
  let above = new Uint8Array(width * channels);
  await picture.finish(run, texture, async ({ row, column }, colours) => {
    strip ??= new Uint8Array((row.last - row.first) * width * channels);
    place(strip, width, channels, column, row.last - row.first, colours);
    if (column.last < width) return;
    const { filtered, last } = filter(strip, above, width * channels, channels);
    above = last;
    strip = null;
    await writer.write(filtered);
  });
  await writer.close();
  const data = new Uint8Array(await (await compressed).arrayBuffer());
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 8);
  header.setUint8(9, channels === 1 ? 0 : 2);
  const chunks = [chunk("IHDR", new Uint8Array(header.buffer))];
  if (metadata.icc) chunks.push(chunk("iCCP", concatenated([LATIN.encode("ICC profile\0\0"), await deflated(metadata.icc)])));
  if (metadata.density?.unit) chunks.push(chunk("pHYs", density(metadata.density)));
  if (metadata.exif) chunks.push(chunk("eXIf", metadata.exif));
  if (metadata.xmp) chunks.push(chunk("iTXt", concatenated([LATIN.encode("XML:com.adobe.xmp\0\0\0\0\0"), metadata.xmp])));
  chunks.push(chunk("IDAT", data), chunk("IEND", new Uint8Array(0)));
  return new Blob([Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a), ...chunks.flat()], { type: "image/png" });
}

function place(strip, width, channels, { first, last }, rows, colours) {
  for (let y = 0, from = 0; y < rows; y++) {
    let to = (y * width + first) * channels;
    for (let x = first; x < last; x++, from += 3) for (let c = 0; c < channels; c++) strip[to++] = colours[from + c];
  }
}

/** Rows filtered by Paeth's predictor (PNG, 9.4); and the last row as it is. */
function filter(strip, above, length, channels) {
  const rows = strip.length / length;
  const filtered = new Uint8Array(rows * (length + 1));
  for (let y = 0, to = 0; y < rows; y++) {
    const row = strip.subarray(y * length, (y + 1) * length);
    filtered[to++] = 4;
    for (let x = 0; x < length; x++) {
      const left = x < channels ? 0 : row[x - channels], corner = x < channels ? 0 : above[x - channels], up = above[x];
      const guess = left + up - corner;
      const [dl, du, dc] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)];
      filtered[to++] = row[x] - (dl <= du && dl <= dc ? left : du <= dc ? up : corner);
    }
    above = row;
  }
  return { filtered, last: above };
}

async function deflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function chunk(name, content) {
  const length = new DataView(new ArrayBuffer(4));
  length.setUint32(0, content.length);
  const named = concatenated([LATIN.encode(name), content]);
  const check = new DataView(new ArrayBuffer(4));
  check.setUint32(0, crc32(named));
  return [length.buffer, named, check.buffer];
}

function density({ unit, x, y }) {
  const perMetre = (value) => Math.round(value * (unit === 1 ? 1 / 0.0254 : 100));
  const view = new DataView(new ArrayBuffer(9));
  view.setUint32(0, perMetre(x));
  view.setUint32(4, perMetre(y));
  view.setUint8(8, 1);
  return new Uint8Array(view.buffer);
}

// ---------------------------------------------------------------- JPEG and WebP

async function throughCanvas(picture, metadata, run, texture, type, quality) {
  const { width, height } = picture.file;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { alpha: false });
  await picture.finish(run, texture, ({ row, column }, colours) => {
    const part = new ImageData(column.last - column.first, row.last - row.first);
    for (let from = 0, to = 0; from < colours.length; to += 4) {
      part.data[to] = colours[from++];
      part.data[to + 1] = colours[from++];
      part.data[to + 2] = colours[from++];
      part.data[to + 3] = 255;
    }
    context.putImageData(part, column.first, row.first);
  });
  const blob = await canvas.convertToBlob({ type, quality: quality / 100 });
  if (blob.type !== type) throw new Error("this browser cannot write that format; choose another");
  const bytes = new Uint8Array(await blob.arrayBuffer());
  return new Blob(type === TYPES.jpeg ? intoJpeg(bytes, metadata) : intoWebp(bytes, metadata, width, height), { type });
}

/** The file's segments behind the encoder's JFIF header; a profile that the encoder has put in gives way. */
function intoJpeg(bytes, metadata) {
  const kept = [];
  let at = 2;
  while (bytes[at] === 0xff && bytes[at + 1] >= 0xe0 && bytes[at + 1] <= 0xef) {
    const end = at + 2 + ((bytes[at + 2] << 8) | bytes[at + 3]);
    if (bytes[at + 1] !== 0xe2 || !metadata.icc) kept.push(bytes.subarray(at, end));
    at = end;
  }
  const start = (marker, length) => Uint8Array.of(0xff, marker, length >> 8, length & 255);
  const own = metadata.segments.flatMap(([marker, content]) => [start(marker, content.length + 2), content]);
  return [bytes.subarray(0, 2), ...kept, ...own, bytes.subarray(at)];
}

/** In the extended format, which can hold them. */
function intoWebp(bytes, { icc, exif, xmp }, width, height) {
  if (!icc && !exif && !xmp) return [bytes];
  const picture = pictureChunks(bytes);
  const size = (value) => [(value - 1) & 255, ((value - 1) >> 8) & 255, (value - 1) >> 16];
  const flags = (icc ? 0x20 : 0) | (exif ? 0x08 : 0) | (xmp ? 0x04 : 0);
  const parts = [riff("VP8X", Uint8Array.of(flags, 0, 0, 0, ...size(width), ...size(height)))];
  if (icc) parts.push(riff("ICCP", icc));
  parts.push(picture);
  if (exif) parts.push(riff("EXIF", exif));
  if (xmp) parts.push(riff("XMP ", xmp));
  return [riff("RIFF", concatenated([LATIN.encode("WEBP"), ...parts]))];
}

/** The coded picture alone, whatever else the encoder has written. */
function pictureChunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 12; at + 8 <= bytes.length; ) {
    const length = view.getUint32(at + 4, true), end = at + 8 + length + (length % 2);
    if (String.fromCharCode(...bytes.subarray(at, at + 3)) === "VP8" && bytes[at + 3] !== 0x58) return bytes.subarray(at, end);
    at = end;
  }
  throw new Error("this browser's WebP cannot hold the file's metadata; choose another format");
}

function riff(name, content) {
  const length = new DataView(new ArrayBuffer(4));
  length.setUint32(0, content.length, true);
  return concatenated([LATIN.encode(name), new Uint8Array(length.buffer), content, new Uint8Array(content.length % 2)]);
}
