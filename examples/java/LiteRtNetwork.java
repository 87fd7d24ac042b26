import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import org.tensorflow.lite.Interpreter; // of com.google.ai.edge.litert:litert 1, or org.tensorflow:tensorflow-lite

/** A .tflite file of tools/export.py in LiteRT. Written after LiteRT's documentation, and not run by our tests. */
public final class LiteRtNetwork implements Pose.Network, AutoCloseable {
    private final Interpreter interpreter;
    private final int width;
    private final int height;

    public LiteRtNetwork(ByteBuffer model, int width, int height) {
        this.interpreter = new Interpreter(model, new Interpreter.Options().setNumThreads(1));
        this.width = width;
        this.height = height;
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
        ByteBuffer entry = ByteBuffer.allocateDirect(4 * crop.length).order(ByteOrder.nativeOrder());
        entry.asFloatBuffer().put(crop);
        float[] heatmaps = new float[17 * (height / 4) * (width / 4)];
        interpreter.run(entry, FloatBuffer.wrap(heatmaps));
        return heatmaps;
    }

    @Override
    public void close() {
        interpreter.close();
    }
}
