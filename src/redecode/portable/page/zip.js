// Files in one ZIP archive, stored as they are: pictures are compressed already.

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** The check sum of ZIP and PNG. */
export function crc32(bytes) {
  let sum = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) sum = TABLE[(sum ^ bytes[i]) & 255] ^ (sum >>> 8);
  return (sum ^ 0xffffffff) >>> 0;
}

const UTF8 = 0x0800;

/**
 * @param files each with a name and a blob; less than 4 GB in all
 * @returns {Promise<Blob>}
 */
export async function zip(files) {
  const parts = [], directory = [];
  let at = 0;
  for (const { name, blob } of files) {
    const title = new TextEncoder().encode(name);
    const sum = crc32(new Uint8Array(await blob.arrayBuffer()));
    // Version 2.0, names in UTF-8, stored, 1 January 1980.
    const common = [20, UTF8, 0, 0, 0x21];
    const entry = fields([0x04034b50], common, [sum, blob.size, blob.size], [title.length, 0]);
    parts.push(entry, title, blob);
    directory.push(fields([0x02014b50], [20, ...common], [sum, blob.size, blob.size], [title.length, 0, 0, 0, 0], [0, at]), title);
    at += entry.length + title.length + blob.size;
  }
  const length = directory.reduce((sum, part) => sum + part.length, 0);
  if (at + length >= 2 ** 32) throw new Error("the pictures are too many for one archive; save them one by one");
  const end = fields([0x06054b50], [0, 0, files.length, files.length], [length, at], [0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** Numbers, least byte first: groups of 4 and of 2 bytes by turns, beginning with one of 4. */
function fields(...groups) {
  const bytes = [];
  groups.forEach((group, i) => {
    for (const value of group) for (let k = 0; k < (i % 2 ? 2 : 4); k++) bytes.push((value >>> (8 * k)) & 255);
  });
  return Uint8Array.from(bytes);
}
