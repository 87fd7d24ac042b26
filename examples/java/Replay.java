import java.io.DataInputStream;
import java.io.FileInputStream;
import java.io.IOException;

/** The test of Pose.java: a network that gives recorded heatmaps, and is told how far the crops are from recorded ones. */
public final class Replay implements Pose.Network {
    private final int width;
    private final int height;
    private final float[][] crops = new float[2][];
    private final float[][] heatmaps = new float[2][];
    private int turn;
    private float worst;

    private Replay(DataInputStream file) throws IOException {
        width = file.readInt();
        height = file.readInt();
        for (int i = 0; i < 2; i++) {
            crops[i] = floats(file, 3 * width * height);
            heatmaps[i] = floats(file, 17 * (width / 4) * (height / 4));
        }
    }

    static float[] floats(DataInputStream file, int count) throws IOException {
        float[] values = new float[count];
        for (int i = 0; i < count; i++) values[i] = file.readFloat();
        return values;
    }

    @Override
    public int width() {
        return width;
    }

    @Override
    public int height() {
        return height;
    }

    @Override
    public float[] run(float[] crop) {
        for (int i = 0; i < crop.length; i++) worst = Math.max(worst, Math.abs(crop[i] - crops[turn][i]));
        return heatmaps[turn++];
    }

    public static void main(String[] given) throws IOException {
        try (DataInputStream file = new DataInputStream(new java.io.BufferedInputStream(new FileInputStream(given[0])))) {
            int imageWidth = file.readInt(), imageHeight = file.readInt();
            int[] pixels = new int[imageWidth * imageHeight];
            for (int i = 0; i < pixels.length; i++) pixels[i] = file.readInt();
            float[] box = floats(file, 4);
            Replay network = new Replay(file);
            float[][] found = Pose.find(network, pixels, imageWidth, imageHeight, box[0], box[1], box[2], box[3]);
            for (float[] point : found) System.out.println(point[0] + " " + point[1] + " " + point[2]);
            System.out.println("largest difference of a crop: " + network.worst);
        }
    }
}
