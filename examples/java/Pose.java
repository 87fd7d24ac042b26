/*
 * One person's keypoints in Java: box -> crop -> network -> decode, as Android runs it. The network is behind an
 * interface: LiteRtNetwork.java runs a .tflite file; this file needs nothing but Java.
 *
 *     python tools/export.py CONFIG CHECKPOINT --format litert --out pose.tflite
 *
 *     Network network = new LiteRtNetwork(modelBuffer, 160, 192);
 *     float[][] keypoints = Pose.find(network, bitmapPixels, bitmapWidth, bitmapHeight, 120, 40, 80, 200);
 */
public final class Pose {
    /** (1, 3, H, W) float32 normalized RGB to heatmaps (1, 17, H / 4, W / 4), both row by row. */
    public interface Network {
        int width();

        int height();

        float[] run(float[] crop);
    }

    // ImageNet's mean and deviation, the padding of boxes, the shift of mirrored heatmaps: all in the file's metadata.
    private static final float[] MEAN = {0.485f, 0.456f, 0.406f};
    private static final float[] STD = {0.229f, 0.224f, 0.225f};
    private static final double PADDING = 1.25;
    private static final int FLIP_SHIFT = 1;
    private static final int STRIDE = 4;
    private static final int[] MIRRORED = {0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15};

    private Pose() {}

    /**
     * The keypoints of the person in a box: x, y in pixels of the picture and the score, of each of COCO's 17.
     *
     * @param pixels of the picture row by row, 0xRRGGBB as Bitmap.getPixels gives them; the alpha is not read.
     */
    public static float[][] find(
            Network network, int[] pixels, int imageWidth, int imageHeight, double x, double y, double boxWidth, double boxHeight) {
        int width = network.width(), height = network.height();
        // Picture pixels to crop pixels, p -> factor * p + offset: the box padded to the crop's shape and enlarged, its
        // center in the middle of the crop. A pixel's center is at a whole number.
        double factor = width / (PADDING * Math.max(boxWidth, boxHeight * width / height));
        double left = width / 2.0 - factor * (x + boxWidth / 2), top = height / 2.0 - factor * (y + boxHeight / 2);
        float[] crop = cutOut(pixels, imageWidth, imageHeight, factor, left, top, width, height);
        int rows = height / STRIDE, columns = width / STRIDE;
        float[] maps = average(network.run(crop), network.run(mirrored(crop, width)), rows, columns);
        float[][] found = decode(maps, rows, columns);
        for (float[] point : found) {
            point[0] = (float) ((STRIDE * point[0] - left) / factor);
            point[1] = (float) ((STRIDE * point[1] - top) / factor);
        }
        return found;
    }

    /** The crop as the network takes it, resampled bilinearly, black outside the picture. */
    static float[] cutOut(
            int[] pixels, int imageWidth, int imageHeight, double factor, double left, double top, int width, int height) {
        float[] values = new float[3 * width * height];
        for (int row = 0; row < height; row++) {
            for (int column = 0; column < width; column++) {
                double x = (column - left) / factor, y = (row - top) / factor;
                int x0 = (int) Math.floor(x), y0 = (int) Math.floor(y);
                double right = x - x0, below = y - y0;
                int[] around = new int[4];
                for (int i = 0; i < 4; i++) {
                    int px = x0 + i % 2, py = y0 + i / 2;
                    boolean inside = px >= 0 && py >= 0 && px < imageWidth && py < imageHeight;
                    around[i] = inside ? pixels[py * imageWidth + px] : 0;
                }
                for (int color = 0; color < 3; color++) {
                    int shift = 16 - 8 * color;
                    double upper = (around[0] >> shift & 255) * (1 - right) + (around[1] >> shift & 255) * right;
                    double lower = (around[2] >> shift & 255) * (1 - right) + (around[3] >> shift & 255) * right;
                    double value = Math.rint(upper * (1 - below) + lower * below) / 255;
                    values[(color * height + row) * width + column] = (float) ((value - MEAN[color]) / STD[color]);
                }
            }
        }
        return values;
    }

    static float[] mirrored(float[] values, int width) {
        float[] turned = new float[values.length];
        for (int at = 0; at < values.length; at++) {
            turned[at] = values[at / width * width + width - 1 - at % width];
        }
        return turned;
    }

    /** The mean of a crop's heatmaps and of the mirrored crop's, which are mirrored back and moved to the right. */
    static float[] average(float[] maps, float[] flipped, int height, int width) {
        float[] mean = new float[maps.length];
        for (int at = 0; at < maps.length; at++) {
            int x = at % width, row = at / width % height, joint = at / (width * height);
            int from = x < FLIP_SHIFT ? x : x - FLIP_SHIFT; // the first columns stay where they are
            mean[at] = (maps[at] + flipped[(MIRRORED[joint] * height + row) * width + width - 1 - from]) / 2;
        }
        return mean;
    }

    /** The highest pixel of each map, and a quarter of one towards the higher neighbor: x, y, score. */
    static float[][] decode(float[] maps, int height, int width) {
        float[][] points = new float[MIRRORED.length][];
        for (int joint = 0; joint < points.length; joint++) {
            int start = joint * height * width, peak = start;
            for (int at = start; at < start + height * width; at++) {
                if (maps[at] > maps[peak]) peak = at;
            }
            float x = (peak - start) % width, y = (peak - start) / width;
            if (!(maps[peak] > 0)) {
                points[joint] = new float[] {0, 0, maps[peak]};
                continue;
            }
            if (x > 1 && x < width - 1 && y > 1 && y < height - 1) {
                x += 0.25f * Math.signum(maps[peak + 1] - maps[peak - 1]);
                y += 0.25f * Math.signum(maps[peak + width] - maps[peak - width]);
            }
            points[joint] = new float[] {x, y, maps[peak]};
        }
        return points;
    }
}
