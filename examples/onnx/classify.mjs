// Classify pictures in a browser with a model of `holotype export --to onnx`; needs onnxruntime-web alone.
import * as ort from "./onnxruntime-web/ort.wasm.min.mjs";

const MARGIN = 127; // of grey, as the model's metadata say
const cubic = x => x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;

// Which of the `count` pixels of a row make each of `to`, and how much of each: bicubic, and wider where it shrinks.
const taps = (from, count, to) => Array.from({ length: to }, (_, place) => {
    const wide = Math.max(from / to, 1), centre = (place + 0.5) * from / to;
    const [first, end] = [-2, 2].map(side => Math.min(count, Math.max(0, Math.floor(centre + side * wide + 0.5))));
    const parts = Array.from({ length: end - first }, (_, k) => cubic(Math.abs(first + k - centre + 0.5) / wide));
    const sum = parts.reduce((one, other) => one + other);
    return parts.map((part, k) => [first + k, part / sum]);
});

// The mean of `by` pixels after another.
const means = (count, by) => Array.from({ length: Math.ceil(count / by) }, (_, place) => {
    const here = Math.min(by, count - place * by);
    return Array.from({ length: here }, (_, k) => [place * by + k, 1 / here]);
});

// Make each pixel of a row by its parts, and exchange rows and columns: done twice, it is the whole picture.
function made(pixels, height, width, row) {
    const found = new Uint8ClampedArray(row.length * height * 3);
    row.forEach((parts, x) => {
        for (let y = 0; y < height; y++) for (let c = 0; c < 3; c++) {
            let sum = 0;
            for (const [place, part] of parts) sum += pixels[(y * width + place) * 3 + c] * part;
            found[(x * height + y) * 3 + c] = sum; // which is rounded, and kept within 0 and 255
        }
    });
    return found;
}

const both = (pixels, height, width, rows, columns) =>
    made(made(pixels, height, width, columns), columns.length, height, rows);

// A picture (a Blob) as the model takes it: upright, on white, fitted into its size, with grey margins.
export async function toPixels(blob, height, width) {
    const image = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, image.width, image.height);
    let rgb = new Uint8ClampedArray(data.length / 4 * 3), { width: wide, height: high } = image;
    for (let p = 0; p < data.length / 4; p++) for (let c = 0; c < 3; c++)
        rgb[p * 3 + c] = (data[p * 4 + c] * data[p * 4 + 3] + 255 * (255 - data[p * 4 + 3])) / 255;
    const reduce = (x, y) => {
        rgb = both(rgb, high, wide, means(high, y), means(wide, x));
        [wide, high] = [Math.ceil(wide / x), Math.ceil(high / y)];
    };
    const [one, other] = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
    if (one === 0xff && other === 0xd8) { // of a JPEG: holotype has it decoded at 1/2, 1/4 or 1/8 where that is enough
        const least = Math.floor(Math.max(wide, high) / Math.max(width, height));
        const by = [8, 4, 2, 1].find(by => least >= by) ?? 1;
        reduce(by, by);
    }
    const fit = Math.min(width / wide, height / high);
    const [w, h] = [wide, high].map(side => Math.max(1, Math.round(side * fit)));
    const [fromW, fromH] = [wide, high], [x, y] = [wide / w, high / h].map(by => Math.max(1, Math.floor(by / 3)));
    reduce(x, y); // what is much too large is first shrunk by a whole number
    const small = both(rgb, high, wide, taps(fromH / y, high, h), taps(fromW / x, wide, w));
    const found = new Uint8Array(height * width * 3).fill(MARGIN), top = (height - h) >> 1, left = (width - w) >> 1;
    for (let row = 0; row < h; row++)
        found.set(small.subarray(row * w * 3, (row + 1) * w * 3), ((top + row) * width + left) * 3);
    return found;
}

export const load = bytes => ort.InferenceSession.create(bytes); // an ArrayBuffer or the address of the file

export async function classify(session, blob) {
    const [, height, width] = session.inputMetadata[0].shape;
    const pixels = new ort.Tensor("uint8", await toPixels(blob, height, width), [1, height, width, 3]);
    const { label, probabilities, classes } = await session.run({ pixels });
    const each = Object.fromEntries(classes.data.map((name, k) => [name, probabilities.data[k]]));
    return { label: label.data[0], probabilities: each };
}
