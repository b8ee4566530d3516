// The large view: before and after on one canvas, zoomed and panned together.
//
// Lengths are in device pixels, so that 100 % shows one pixel of the picture on one pixel of the screen.

const MAX_SCALE = 32;
const LEVELS = [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16, 32];
const SMALL_FIT = 4; // Small pictures are enlarged up to this to fill the view.
const CRISP_FROM = 2; // Enlarged this much, pixels are shown as squares.
const MIN_GRID = 5; // Closer lines would be a gray veil.
const AMPLIFY_TWICE = 3; // How many times the difference is doubled.
const MASK_STRENGTH = 0.55;
const REVEAL_MS = 700;
const PANS = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"];

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function sheet(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

/** A picture cut out along a mask. */
export function cut(bitmap, mask) {
  const canvas = sheet(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  context.globalCompositeOperation = "destination-in";
  context.drawImage(mask, 0, 0);
  return canvas;
}

/** A mask in one colour. */
export function tint(mask, colour) {
  const canvas = sheet(mask.width, mask.height);
  const context = canvas.getContext("2d");
  context.drawImage(mask, 0, 0);
  context.globalCompositeOperation = "source-in";
  context.fillStyle = colour;
  context.fillRect(0, 0, canvas.width, canvas.height);
  return canvas;
}

export class Viewer {
  /**
   * @param elements canvas, divider, before, after, level
   */
  constructor(elements) {
    this.elements = elements;
    this.context = elements.canvas.getContext("2d");
    this.scratch = sheet(1, 1);
    this.layers = null;
    this.amount = 1;
    this.peeking = false;
    this.overlays = new Set();
    this.share = 0.5; // Of the width, where the divider stands.
    this.fitted = true;
    this.pointers = new Map();
    new ResizeObserver(() => this.#resize()).observe(elements.canvas);
    this.#listen();
  }

  /**
   * Show a picture.
   * @param layers original; base, texture (cut out along the mask) and mask (tinted) once it is restored
   * @param grid where its blocks begin
   * @param reveal draw the divider across
   */
  show(layers, grid = [0, 0], reveal = false) {
    const same = this.layers && this.layers.original.width === layers.original.width && this.layers.original.height === layers.original.height;
    this.layers = layers;
    this.grid = grid;
    if (!same) this.fit();
    if (reveal) this.#reveal();
    this.draw();
  }

  clear() {
    this.layers = null;
    this.draw();
  }

  setAmount(amount) {
    this.amount = amount;
    this.draw();
  }

  /** Show the original alone, for as long as somebody wants to see it. */
  peek(on) {
    this.peeking = on;
    this.draw();
  }

  toggle(overlay, on) {
    if (on) this.overlays.add(overlay);
    else this.overlays.delete(overlay);
    this.draw();
  }

  divide(share) {
    cancelAnimationFrame(this.revealing);
    this.share = clamp(share, 0, 1);
    this.draw();
  }

  fit() {
    this.fitted = true;
    this.#settle();
  }

  zoomTo(scale, x = this.width / 2, y = this.height / 2) {
    if (!this.layers) return;
    const before = this.#origin();
    const next = clamp(scale, Math.min(this.#fitScale(), 1) / 2, MAX_SCALE);
    // What is under the pointer stays there.
    const [px, py] = [(x - before.x) / this.scale, (y - before.y) / this.scale];
    this.fitted = false;
    this.scale = next;
    this.centre = { x: px + (this.width / 2 - x) / next, y: py + (this.height / 2 - y) / next };
    this.#settle();
  }

  zoomStep(up) {
    const beyond = up ? LEVELS.find((level) => level > this.scale * 1.01) : LEVELS.findLast((level) => level < this.scale * 0.99);
    if (beyond) this.zoomTo(beyond);
  }

  pan(dx, dy) {
    if (!this.layers) return;
    this.fitted = false;
    this.centre = { x: this.centre.x - dx / this.scale, y: this.centre.y - dy / this.scale };
    this.#settle();
  }

  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.#paint();
    });
  }

  get width() { return this.elements.canvas.width; }
  get height() { return this.elements.canvas.height; }

  get #pictureSize() {
    return [this.layers.original.width, this.layers.original.height];
  }

  #fitScale() {
    const [width, height] = this.#pictureSize;
    const scale = Math.min(this.width / width, this.height / height);
    return scale < 1 ? scale : Math.min(Math.floor(scale), SMALL_FIT);
  }

  /** Keep the view within the picture, or the picture within the view. */
  #settle() {
    if (!this.layers) return;
    const [width, height] = this.#pictureSize;
    if (this.fitted) {
      this.scale = this.#fitScale();
      this.centre = { x: width / 2, y: height / 2 };
    }
    const within = (centre, view, length) => {
      const half = view / 2 / this.scale;
      return length <= 2 * half ? length / 2 : clamp(centre, half, length - half);
    };
    this.centre = { x: within(this.centre.x, this.width, width), y: within(this.centre.y, this.height, height) };
    this.elements.canvas.classList.toggle("whole", !this.#pannable());
    this.elements.level.value = `${Math.round(this.scale * 100)} %`;
    this.draw();
  }

  #pannable() {
    const [width, height] = this.#pictureSize;
    return width * this.scale > this.width + 1 || height * this.scale > this.height + 1;
  }

  /** Where the picture's corner lies; on whole pixels, so that 100 % is exact. */
  #origin() {
    return {
      x: Math.round(this.width / 2 - this.centre.x * this.scale),
      y: Math.round(this.height / 2 - this.centre.y * this.scale),
    };
  }

  #resize() {
    const { canvas } = this.elements;
    const ratio = devicePixelRatio;
    const [width, height] = [Math.max(1, Math.round(canvas.clientWidth * ratio)), Math.max(1, Math.round(canvas.clientHeight * ratio))];
    if (canvas.width === width && canvas.height === height) return;
    canvas.width = this.scratch.width = width;
    canvas.height = this.scratch.height = height;
    this.#settle();
    this.#paint(); // At once: a resized canvas is empty.
  }

  #paint() {
    const { context, width, height } = this;
    context.clearRect(0, 0, width, height);
    const restored = Boolean(this.layers?.base);
    const split = restored && !this.peeking ? Math.round(this.share * width) : width;
    this.#placeDivider(restored && !this.peeking);
    if (!this.layers) return;
    this.#within(context, 0, split, () => this.#blit(context, this.layers.original));
    if (restored) {
      this.#within(context, split, width - split, () => {
        if (this.overlays.has("difference")) this.#paintDifference();
        else this.#paintRestored(context);
        if (this.overlays.has("mask")) this.#blit(context, this.layers.mask, MASK_STRENGTH);
      });
    }
    if (this.overlays.has("grid")) this.#paintGrid();
  }

  #within(context, left, width, paint) {
    context.save();
    context.beginPath();
    context.rect(left, 0, width, this.height);
    context.clip();
    paint();
    context.restore();
  }

  /** I = L_B + amount · M ⊙ (L_T − L_B): the texture layer carries M in its transparency. */
  #paintRestored(context) {
    this.#blit(context, this.layers.base);
    this.#blit(context, this.layers.texture, this.amount);
  }

  #paintDifference() {
    const { scratch } = this;
    const context = scratch.getContext("2d");
    context.globalCompositeOperation = "copy";
    context.fillStyle = "#000";
    context.fillRect(0, 0, scratch.width, scratch.height);
    context.globalCompositeOperation = "source-over";
    this.#paintRestored(context);
    context.globalCompositeOperation = "difference";
    this.#blit(context, this.layers.original);
    context.globalCompositeOperation = "lighter";
    for (let i = 0; i < AMPLIFY_TWICE; i++) context.drawImage(scratch, 0, 0);
    const origin = this.#origin();
    const [width, height] = this.#pictureSize.map((length) => Math.ceil(length * this.scale));
    this.context.save();
    this.context.beginPath();
    this.context.rect(origin.x, origin.y, width, height);
    this.context.clip();
    this.context.drawImage(scratch, 0, 0);
    this.context.restore();
  }

  #paintGrid() {
    const step = 8 * this.scale;
    if (step < MIN_GRID) return;
    const { context } = this;
    const origin = this.#origin();
    const [width, height] = this.#pictureSize;
    const [right, bottom] = [Math.min(this.width, origin.x + width * this.scale), Math.min(this.height, origin.y + height * this.scale)];
    const [left, top] = [Math.max(0, origin.x), Math.max(0, origin.y)];
    context.beginPath();
    for (let x = origin.x + this.grid[0] * this.scale; x <= right; x += step) {
      if (x >= left) context.rect(Math.round(x), top, 1, bottom - top);
    }
    for (let y = origin.y + this.grid[1] * this.scale; y <= bottom; y += step) {
      if (y >= top) context.rect(left, Math.round(y), right - left, 1);
    }
    context.save();
    // Seen on dark and on bright pictures alike.
    context.globalCompositeOperation = "difference";
    context.fillStyle = `rgb(255 255 255 / ${clamp((step - MIN_GRID) / 40, 0.12, 0.4)})`;
    context.fill();
    context.restore();
  }

  /** The part of a layer that is in view. */
  #blit(context, layer, alpha = 1) {
    const { scale } = this;
    const origin = this.#origin();
    const left = Math.max(0, Math.floor(-origin.x / scale));
    const top = Math.max(0, Math.floor(-origin.y / scale));
    const right = Math.min(layer.width, Math.ceil((this.width - origin.x) / scale));
    const bottom = Math.min(layer.height, Math.ceil((this.height - origin.y) / scale));
    if (right <= left || bottom <= top) return;
    context.imageSmoothingEnabled = scale < CRISP_FROM && scale !== 1;
    context.imageSmoothingQuality = "high";
    context.globalAlpha = alpha;
    const [width, height] = [right - left, bottom - top];
    context.drawImage(layer, left, top, width, height, origin.x + left * scale, origin.y + top * scale, width * scale, height * scale);
    context.globalAlpha = 1;
  }

  #placeDivider(shown) {
    const { divider, before, after } = this.elements;
    divider.hidden = !shown;
    before.classList.toggle("away", !this.layers || (shown && this.share < 0.12));
    after.classList.toggle("away", !shown || this.share > 0.88);
    divider.style.transform = `translateX(${this.share * this.elements.canvas.clientWidth}px)`;
    const value = Math.round(this.share * 100);
    divider.setAttribute("aria-valuenow", value);
    divider.setAttribute("aria-valuetext", `${value} % before, ${100 - value} % after`);
  }

  #reveal() {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    const target = this.share;
    const began = performance.now();
    const frame = (now) => {
      const t = clamp((now - began) / REVEAL_MS, 0, 1);
      this.share = 1 + (target - 1) * (1 - (1 - t) ** 3);
      this.draw();
      if (t < 1) this.revealing = requestAnimationFrame(frame);
    };
    this.share = 1;
    this.revealing = requestAnimationFrame(frame);
  }

  #listen() {
    const { canvas, divider } = this.elements;
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return { x: (event.clientX - box.left) * (canvas.width / box.width), y: (event.clientY - box.top) * (canvas.height / box.height) };
    };
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const { x, y } = place(event);
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
      if (this.layers) this.zoomTo(this.scale * Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002)), x, y);
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, place(event));
      canvas.classList.add("dragging");
    });
    canvas.addEventListener("pointermove", (event) => {
      const last = this.pointers.get(event.pointerId);
      if (!last || !this.layers) return;
      const now = place(event);
      this.pointers.set(event.pointerId, now);
      if (this.pointers.size === 2) this.#pinch(event.pointerId, last, now);
      else if (this.pointers.size > 2) return;
      else if (this.#pannable()) this.pan(now.x - last.x, now.y - last.y);
      else this.divide(now.x / this.width);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => {
        this.pointers.delete(event.pointerId);
        canvas.classList.toggle("dragging", this.pointers.size > 0);
      });
    }
    canvas.addEventListener("dblclick", (event) => {
      const { x, y } = place(event);
      if (this.fitted) this.zoomTo(Math.max(1, this.scale * 2), x, y);
      else this.fit();
    });
    canvas.addEventListener("keydown", (event) => {
      if (PANS.includes(event.key)) this.key(event);
    });
    divider.addEventListener("pointerdown", (event) => divider.setPointerCapture(event.pointerId));
    divider.addEventListener("pointermove", (event) => {
      if (divider.hasPointerCapture(event.pointerId)) this.divide(place(event).x / this.width);
    });
    divider.addEventListener("keydown", (event) => this.#dividerKey(event));
  }

  #pinch(id, last, now) {
    const [other] = [...this.pointers].filter(([key]) => key !== id).map(([, point]) => point);
    const distance = (point) => Math.hypot(point.x - other.x, point.y - other.y);
    this.pan((now.x - last.x) / 2, (now.y - last.y) / 2);
    this.zoomTo((this.scale * distance(now)) / Math.max(distance(last), 1), (now.x + other.x) / 2, (now.y + other.y) / 2);
  }

  /** Zoom or pan as a key says, if it is one of those that do. */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const far = Math.min(this.width, this.height) / 8;
    const actions = {
      "+": () => this.zoomStep(true),
      "=": () => this.zoomStep(true),
      "-": () => this.zoomStep(false),
      0: () => this.fit(),
      1: () => this.zoomTo(1),
      ArrowLeft: () => this.pan(far, 0),
      ArrowRight: () => this.pan(-far, 0),
      ArrowUp: () => this.pan(0, far),
      ArrowDown: () => this.pan(0, -far),
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  }

  #dividerKey(event) {
    const step = event.shiftKey ? 0.1 : 0.02;
    const target = {
      ArrowLeft: this.share - step,
      ArrowDown: this.share - step,
      ArrowRight: this.share + step,
      ArrowUp: this.share + step,
      PageDown: this.share - 0.1,
      PageUp: this.share + 0.1,
      Home: 0,
      End: 1,
    }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    this.divide(target);
  }
}
