// What a JPEG tells beside its picture: EXIF data, colour profile, XMP and resolution. These are kept in what is saved; the rest is not.

const KEPT = [
  ["exif", 0xe1, "Exif\0\0"],
  ["xmp", 0xe1, "http://ns.adobe.com/xap/1.0/\0"],
  ["icc_profile", 0xe2, "ICC_PROFILE\0"],
];
const ORIENTATION = 0x0112;

const startsWith = (bytes, text) => bytes.length >= text.length && [...text].every((letter, i) => bytes[i] === letter.charCodeAt(0));

export class Metadata {
  /** @param segments [marker, content] of a file's APPn and COM segments */
  constructor(segments) {
    this.segments = segments.filter(([marker, content]) => KEPT.some(([, own, start]) => own === marker && startsWith(content, start)));
    const [exif, xmp] = KEPT.map(([name]) => this.#contents(name)[0]);
    this.exif = exif ?? null; // TIFF, as PNG and WebP want it.
    this.xmp = xmp ?? null;
    this.icc = joined(this.#contents("icc_profile"));
    const jfif = segments.find(([marker, content]) => marker === 0xe0 && startsWith(content, "JFIF\0"))?.[1];
    this.density = jfif && jfif.length >= 12 ? { unit: jfif[7], x: (jfif[8] << 8) | jfif[9], y: (jfif[10] << 8) | jfif[11] } : null;
    this.orientation = this.exif ? orientation(this.exif) : 1;
    this.comments = segments.some(([marker]) => marker === 0xfe);
  }

  /** Their names, as the server tells them. */
  get names() {
    const found = { exif: this.exif, icc_profile: this.icc, dpi: this.density?.unit, xmp: this.xmp, comment: this.comments };
    return Object.keys(found).filter((name) => found[name]);
  }

  #contents(name) {
    const [, marker, start] = KEPT.find(([own]) => own === name);
    const own = this.segments.filter(([found, content]) => found === marker && startsWith(content, start));
    return own.map(([, content]) => content.subarray(start.length));
  }
}

/** The parts of a profile, in their order; null where some are missing. */
function joined(parts) {
  const ordered = [...parts].sort((a, b) => a[0] - b[0]);
  if (!ordered.length || ordered.some((part, i) => part[0] !== i + 1 || part[1] !== ordered.length)) return null;
  return concatenated(ordered.map((part) => part.subarray(2)));
}

/** Bytes, one after the other. */
export function concatenated(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Of EXIF data, 1 … 8. */
function orientation(exif) {
  if (exif.length < 8) return 1;
  const view = new DataView(exif.buffer, exif.byteOffset, exif.byteLength);
  const little = exif[0] === 0x49;
  const first = view.getUint32(4, little);
  if (first + 2 > exif.length) return 1;
  const count = view.getUint16(first, little);
  for (let i = 0; i < count && first + 14 + 12 * i <= exif.length; i++) {
    if (view.getUint16(first + 2 + 12 * i, little) !== ORIENTATION) continue;
    const value = view.getUint16(first + 10 + 12 * i, little);
    return value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}
