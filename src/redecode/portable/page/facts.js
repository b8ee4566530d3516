// What a file is, in words and numbers, as the server tells it.

const RATIOS = { "1,1": "4:4:4", "2,1": "4:2:2", "2,2": "4:2:0", "1,2": "4:4:0", "4,1": "4:1:1" };

/**
 * @param file what jpeg.js has read
 * @param metadata its
 * @param steps for each quality factor, 1 … 100, libjpeg's steps of luma
 */
export function facts(file, metadata, steps) {
  const [luma, blue, red] = file.components;
  const { quality, fit } = nearest(luma.table, steps);
  return {
    format: file.progressive ? "progressive JPEG" : "JPEG",
    width: file.width,
    height: file.height,
    colour_model: file.colourModel,
    subsampling: blue ? subsampling(luma, blue, red) : "gray",
    quality,
    quality_fit: fit,
    damaged: file.damaged,
    bytes_after_the_picture: file.trailing || null,
    metadata: metadata.names,
    luma_table: square(luma.table),
    chroma_table: blue ? square(blue.table) : null,
  };
}

function subsampling(luma, blue, red) {
  const plain = [blue, red].every(({ h, v }) => h === 1 && v === 1);
  return (plain && RATIOS[`${luma.h},${luma.v}`]) || [luma, blue, red].map(({ h, v }) => `${h}x${v}`).join(",");
}

const square = (table) => Array.from({ length: 8 }, (_, row) => [...table.subarray(row * 8, row * 8 + 8)]);

/** The libjpeg quality factor whose table is most like this one, and how well it fits, 0 … 1. */
function nearest(table, steps) {
  let best = { quality: 1, distance: Infinity };
  steps.forEach((own, index) => {
    const distance = own.reduce((sum, step, k) => sum + Math.abs(Math.log(step / table[k])), 0) / 64;
    if (distance < best.distance) best = { quality: index + 1, distance };
  });
  return { quality: best.quality, fit: Number(Math.exp(-best.distance).toFixed(3)) };
}
