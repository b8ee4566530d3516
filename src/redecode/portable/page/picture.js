// A picture: from its file's coefficients to layers, tile by tile, and from layers to pixels.

const TILE = 512; // Largest side of a tile's kept part; of a picture that is a little larger, too.
const FIXED = 64; // Layers are kept as whole numbers, so many to a level.
const MIDDLE = 128;

const gcd = (a, b) => (b ? gcd(b, a % b) : a);
const lcm = (a, b) => (a / gcd(a, b)) * b;

/** Cover an axis with kept parts, each with a halo where it does not touch the picture's border; as redecode.restoration.tiling.spans. */
function spans(length, halo, unit) {
  const count = Math.ceil(length / TILE);
  const step = Math.ceil(Math.ceil(length / count) / unit) * unit;
  const found = [];
  for (let first = 0; first < length; first += step) {
    const last = Math.min(first + step, length);
    found.push({ first, last, start: Math.max(0, first - halo), stop: Math.min(last + halo, length) });
  }
  return found;
}

export class Picture {
  /**
   * @param file what jpeg.js has read
   * @param about what the page's about.json tells of the graphs
   * @param wake sees to it that the file's coefficients are in memory
   */
  constructor(file, about, wake) {
    this.file = file;
    this.wake = wake;
    this.about = about;
    this.largest = { h: Math.max(...file.components.map(({ h }) => h)), v: Math.max(...file.components.map(({ v }) => v)) };
    this.units = [lcm(about.alignment, 8 * this.largest.v), lcm(about.alignment, 8 * this.largest.h)];
    this.parts = []; // For each tile its layers.
    this.results = new Map(); // For amounts of texture the tiles' pixels, as far as they were asked for.
  }

  /** All tiles, row by row: the rows and columns of each. */
  tiles(halo) {
    const [rows, columns] = [this.file.height, this.file.width].map((length, axis) => {
      const unit = this.units[axis];
      return spans(length, Math.ceil(halo / unit) * unit, unit);
    });
    return rows.flatMap((row) => columns.map((column) => ({ row, column })));
  }

  /**
   * Compute the layers.
   * @param run runs a graph with inputs
   * @param progress told of the tiles done and of how many there are; what it throws ends the work
   */
  async restore(run, halo, progress) {
    const tiles = this.tiles(halo);
    for (const [index, tile] of tiles.entries()) {
      progress(index, tiles.length);
      const { base, texture, mask } = await run(await this.inputs(tile));
      this.parts.push(this.kept(tile, base, texture, mask.data));
    }
    progress(tiles.length, tiles.length);
  }

  /** The graph's inputs that hold a tile's part of the file. */
  async inputs({ row, column }) {
    await this.wake();
    const { components, height, width } = this.file;
    const cut = (component) => {
      const [first, last] = this.blocks(row, height, component.v / this.largest.v, component.rows);
      const [left, right] = this.blocks(column, width, component.h / this.largest.h, component.columns);
      const taken = new Int16Array((last - first) * (right - left) * 64);
      for (let y = first; y < last; y++) {
        const start = (y * component.columns + left) * 64;
        taken.set(component.coefficients.subarray(start, start + (right - left) * 64), (y - first) * (right - left) * 64);
      }
      return { type: "int16", data: taken, dims: [last - first, right - left, 8, 8] };
    };
    const luma = cut(components[0]);
    const none = () => ({ ...luma, data: new Int16Array(luma.data.length) });
    const [blue, red] = components.length > 1 ? components.slice(1).map(cut) : [none(), none()];
    const tables = new Uint16Array(3 * 64).fill(1);
    components.forEach(({ table }, i) => tables.set(table, i * 64));
    const size = BigInt64Array.of(BigInt(row.stop - row.start), BigInt(column.stop - column.start));
    return { luma, blue, red, tables: { type: "uint16", data: tables, dims: [3, 8, 8] }, size: { type: "int64", data: size, dims: [2] } };
  }

  /** A span in blocks of a component; at the picture's end with all blocks that there are. */
  blocks({ start, stop }, length, share, all) {
    return [Math.round((start / 8) * share), stop === length ? all : Math.round((stop / 8) * share)];
  }

  /** A tile's kept part of the layers, in a blob: browsers put large ones away. */
  kept({ row, column }, base, texture, mask) {
    const [height, width] = [row.last - row.first, column.last - column.first];
    const [top, left] = [row.first - row.start, column.first - column.start];
    const planes = this.file.components.length;
    const where = new Uint8Array(height * width);
    const read = column.stop - column.start;
    for (let y = 0; y < height; y++) {
      const start = (top + y) * read + left;
      where.set(mask.subarray(start, start + width), y * width);
    }
    const fixed = ({ data, dims }) => {
      const found = new Int16Array(planes * height * width);
      for (let plane = 0, to = 0; plane < planes; plane++) {
        for (let y = 0; y < height; y++) {
          let from = (plane * dims[1] + top + y) * dims[2] + left;
          for (let x = 0; x < width; x++) found[to++] = Math.round(data[from++] * FIXED);
        }
      }
      return found;
    };
    // Where no texture may enter, nobody will ask for it.
    const layers = where.includes(1) ? [fixed(base), fixed(texture)] : [fixed(base)];
    return { blob: new Blob([...layers, where]), layers: layers.length };
  }

  /**
   * Compute pixels from the layers.
   * @param run runs a graph with inputs
   * @param amount of texture
   * @param sink given each tile's row and column, its pixels (R, G, B), and how many blocks of it contradict the file
   */
  async finish(run, amount, sink) {
    const known = this.known(amount);
    for (const [index, tile] of this.tiles(1).entries()) {
      // Who asked for it first may have left off.
      const made = await known[index]?.catch(() => null);
      if (!made) known[index] = this.finished(run, amount, tile, this.parts[index]);
      const { blob, contradicting } = made ?? (await known[index]);
      await sink(tile, new Uint8Array(await blob.arrayBuffer()), contradicting);
    }
  }

  /** What is known of an amount's result; of the two extremes, which are shown, and of the last one in between. */
  known(amount) {
    if (!this.results.has(amount)) {
      for (const other of this.results.keys()) if (other !== 0 && other !== 1) this.results.delete(other);
      this.results.set(amount, []);
    }
    return this.results.get(amount);
  }

  /** A tile's pixels, in a blob, and how many blocks of it contradict the file. */
  async finished(run, amount, tile, part) {
    const { base, texture, mask } = await this.layers(tile, part);
    const inputs = { ...(await this.inputs(tile)), base, texture, mask, amount: { type: "float32", data: Float32Array.of(amount), dims: [1] } };
    const { pixels, contradicting } = await run(inputs);
    return { blob: new Blob([this.cropped(tile, pixels.data)]), contradicting: this.contradicting(tile, contradicting) };
  }

  /** Give the mask, tile by tile, to a sink. */
  async masks(sink) {
    for (const [index, tile] of this.tiles(1).entries()) {
      const { row, column } = tile;
      sink(tile, new Uint8Array(await this.parts[index].blob.slice(-(row.last - row.first) * (column.last - column.first)).arrayBuffer()));
    }
  }

  /** The layers of a tile as the graph takes them; around the kept part there is nothing of interest. */
  async layers({ row, column }, { blob, layers }) {
    const data = await blob.arrayBuffer();
    const [height, width] = [row.last - row.first, column.last - column.first];
    const [top, left] = [row.first - row.start, column.first - column.start];
    const planes = this.file.components.length;
    const count = planes * height * width;
    const { rows, columns } = this.padded(row, column);
    const where = new Uint8Array(data, layers * count * 2);
    const mask = new Uint8Array(rows * columns);
    for (let y = 0; y < height; y++) mask.set(where.subarray(y * width, (y + 1) * width), (top + y) * columns + left);
    const wide = (index) => {
      const fixed = new Int16Array(data, index * count * 2, count);
      const found = new Float32Array(3 * rows * columns).fill(MIDDLE);
      for (let plane = 0, from = 0; plane < planes; plane++) {
        for (let y = 0; y < height; y++) {
          let to = (plane * rows + top + y) * columns + left;
          for (let x = 0; x < width; x++) found[to++] = fixed[from++] / FIXED;
        }
      }
      return { type: "float32", data: found, dims: [3, rows, columns] };
    };
    const base = wide(0);
    return { base, texture: layers > 1 ? wide(1) : base, mask: { type: "bool", data: mask, dims: [rows, columns] } };
  }

  /** Rows and columns of a tile's planes: those of its blocks of luma. */
  padded(row, column) {
    const [luma] = this.file.components;
    const [first, last] = this.blocks(row, this.file.height, 1, luma.rows);
    const [left, right] = this.blocks(column, this.file.width, 1, luma.columns);
    return { rows: (last - first) * 8, columns: (right - left) * 8 };
  }

  /** The kept part of a tile's pixels. */
  cropped({ row, column }, pixels) {
    const [height, width] = [row.last - row.first, column.last - column.first];
    const read = column.stop - column.start;
    const found = new Uint8Array(height * width * 3);
    for (let y = 0; y < height; y++) {
      const start = ((row.first - row.start + y) * read + column.first - column.start) * 3;
      found.set(pixels.subarray(start, start + width * 3), y * width * 3);
    }
    return found;
  }

  /** How many blocks of the kept part contradict the file, of the counts for each MCU. */
  contradicting({ row, column }, counts) {
    const [high, wide] = [8 * this.largest.v, 8 * this.largest.h];
    const part = ({ first, last, start }, side) => [(first - start) / side, Math.ceil((last - start) / side)];
    const [top, bottom] = part(row, high), [left, right] = part(column, wide);
    let total = 0;
    for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) total += counts.data[y * counts.dims[1] + x];
    return total;
  }

  /** How many blocks the file has. */
  get blockCount() {
    return this.file.components.reduce((sum, { ownRows, ownColumns }) => sum + ownRows * ownColumns, 0);
  }
}
