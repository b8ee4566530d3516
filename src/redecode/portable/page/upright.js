// Pictures as EXIF says that they stand.

// For each orientation, where x and y of the stored picture lead: [a, b, c, d] of a canvas's transformation.
const TURNS = [, [1, 0, 0, 1], [-1, 0, 0, 1], [-1, 0, 0, -1], [1, 0, 0, -1], [0, 1, 1, 0], [0, 1, -1, 0], [0, -1, -1, 0], [0, -1, 1, 0]];

/** An upright bitmap of pixels. */
export async function upright(pixels, orientation) {
  const bitmap = await createImageBitmap(pixels);
  if (orientation === 1) return bitmap;
  const { width, height } = bitmap;
  const [a, b, c, d] = TURNS[orientation];
  const canvas = orientation > 4 ? new OffscreenCanvas(height, width) : new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.setTransform(a, b, c, d, a + c < 0 ? canvas.width : 0, b + d < 0 ? canvas.height : 0);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return canvas.transferToImageBitmap();
}
