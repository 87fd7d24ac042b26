// One person's keypoints in C++: box -> crop -> network -> decode -> picture, by OpenVINO.
//
//     python tools/export.py CONFIG CHECKPOINT --format onnx-single --out pose.onnx   (or --format openvino, a .xml)
//     pip install openvino    (the headers and the library are in the package)
//     OV=$(python -c "import openvino, pathlib; print(pathlib.Path(openvino.__file__).parent)")
//     g++ -std=c++17 -O2 -I$OV/include pose.cpp -o pose -L$OV/libs -l:$(basename $OV/libs/libopenvino.so.*) -Wl,-rpath,$OV/libs
//     ./pose pose.onnx me.ppm 120 40 80 200 drawn.ppm
//
// Prints x, y in pixels of the picture and the score of each of COCO's 17 keypoints, and writes the picture with them.
// Pictures are binary PPM, which needs no library; `convert me.jpg me.ppm` makes one.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "openvino/openvino.hpp"

struct Image {
    int width = 0, height = 0;
    std::vector<uint8_t> rgb;
};

struct Point {
    double x, y, score;
};

// ImageNet's mean and deviation, the padding of boxes, the shift of mirrored heatmaps: all in the file's metadata.
constexpr float kMean[3] = {0.485f, 0.456f, 0.406f}, kStd[3] = {0.229f, 0.224f, 0.225f};
constexpr double kPadding = 1.25;
constexpr int kFlipShift = 1;
constexpr int kMirrored[17] = {0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15};

Image read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string kind;
    Image image;
    int most = 0;
    file >> kind >> image.width >> image.height >> most;
    file.get();
    if (!file || kind != "P6" || most != 255) throw std::runtime_error(path + ": not a binary PPM of 8 bits");
    image.rgb.resize(3 * size_t(image.width) * image.height);
    file.read(reinterpret_cast<char*>(image.rgb.data()), std::streamsize(image.rgb.size()));
    if (!file) throw std::runtime_error(path + ": ends too early");
    return image;
}

void write_ppm(const std::string& path, const Image& image) {
    std::ofstream file(path, std::ios::binary);
    file << "P6\n" << image.width << " " << image.height << "\n255\n";
    file.write(reinterpret_cast<const char*>(image.rgb.data()), std::streamsize(image.rgb.size()));
}

// Picture pixels to crop pixels, p -> factor * p + offset: the box padded to the crop's shape and enlarged, its center
// in the middle of the crop. A pixel's center is at a whole number.
struct Crop {
    double factor, left, top;
    Crop(const std::array<double, 4>& box, int width, int height) {
        const double across = kPadding * std::max(box[2], box[3] * width / height);
        factor = width / across;
        left = width / 2.0 - factor * (box[0] + box[2] / 2);
        top = height / 2.0 - factor * (box[1] + box[3] / 2);
    }
};

// The crop as the network takes it: (1, 3, H, W) float32 normalized RGB, resampled bilinearly, black outside.
std::vector<float> cut_out(const Image& image, const Crop& crop, int width, int height) {
    std::vector<float> values(3 * size_t(width) * height);
    auto pixel = [&](int x, int y, int color) -> double {
        const bool inside = x >= 0 && y >= 0 && x < image.width && y < image.height;
        return inside ? image.rgb[3 * (size_t(y) * image.width + x) + color] : 0;
    };
    for (int row = 0; row < height; row++) {
        for (int column = 0; column < width; column++) {
            const double x = (column - crop.left) / crop.factor, y = (row - crop.top) / crop.factor;
            const int x0 = int(std::floor(x)), y0 = int(std::floor(y));
            const double right = x - x0, below = y - y0;
            for (int color = 0; color < 3; color++) {
                const double upper = pixel(x0, y0, color) * (1 - right) + pixel(x0 + 1, y0, color) * right;
                const double lower = pixel(x0, y0 + 1, color) * (1 - right) + pixel(x0 + 1, y0 + 1, color) * right;
                const double value = std::round(upper * (1 - below) + lower * below) / 255;
                values[(size_t(color) * height + row) * width + column] = float((value - kMean[color]) / kStd[color]);
            }
        }
    }
    return values;
}

std::vector<float> mirrored(std::vector<float> values, int width) {
    for (auto row = values.begin(); row != values.end(); row += width) std::reverse(row, row + width);
    return values;
}

// The mean of a crop's heatmaps and of those of the mirrored crop, which are mirrored back and moved to the right.
std::vector<float> average(const std::vector<float>& maps, const std::vector<float>& flipped, int height, int width) {
    std::vector<float> mean(maps.size());
    for (int joint = 0; joint < 17; joint++) {
        for (int row = 0; row < height; row++) {
            const float* own = &maps[(size_t(joint) * height + row) * width];
            const float* other = &flipped[(size_t(kMirrored[joint]) * height + row) * width];
            for (int x = 0; x < width; x++) {
                const int from = x < kFlipShift ? x : x - kFlipShift;  // the first columns stay where they are
                mean[(size_t(joint) * height + row) * width + x] = (own[x] + other[width - 1 - from]) / 2;
            }
        }
    }
    return mean;
}

// The highest pixel of each map, and a quarter of one towards the higher neighbor, in heatmap pixels.
std::vector<Point> decode(const std::vector<float>& maps, int height, int width) {
    std::vector<Point> points;
    auto sign = [](float value) { return (value > 0) - (value < 0); };
    for (int joint = 0; joint < 17; joint++) {
        const float* map = &maps[size_t(joint) * height * width];
        const int peak = int(std::max_element(map, map + height * width) - map), x = peak % width, y = peak / width;
        Point point{double(x), double(y), map[peak]};
        if (x > 1 && x < width - 1 && y > 1 && y < height - 1) {
            point.x += 0.25 * sign(map[peak + 1] - map[peak - 1]);
            point.y += 0.25 * sign(map[peak + width] - map[peak - width]);
        }
        points.push_back(map[peak] > 0 ? point : Point{0, 0, map[peak]});
    }
    return points;
}

int main(int count, char** given) try {
    if (count != 8) throw std::runtime_error("needs NETWORK IMAGE.ppm X Y WIDTH HEIGHT OUT.ppm");
    Image image = read_ppm(given[2]);
    std::array<double, 4> box;
    for (int i = 0; i < 4; i++) box[i] = std::stod(given[3 + i]);
    ov::Core core;
    ov::CompiledModel network = core.compile_model(given[1], "CPU", ov::hint::inference_precision(ov::element::f32));
    ov::InferRequest request = network.create_infer_request();
    const ov::Shape shape = network.input().get_shape();  // 1, 3, H, W
    const int height = int(shape[2]), width = int(shape[3]);
    ov::Shape answered;
    auto run = [&](std::vector<float> values) {
        request.set_input_tensor(ov::Tensor(ov::element::f32, shape, values.data()));
        request.infer();
        const ov::Tensor heatmaps = request.get_output_tensor(0);
        answered = heatmaps.get_shape();  // 1, 17, h, w
        return std::vector<float>(heatmaps.data<float>(), heatmaps.data<float>() + heatmaps.get_size());
    };
    const Crop crop(box, width, height);
    const std::vector<float> values = cut_out(image, crop, width, height), maps = run(values);
    const int rows = int(answered[2]), columns = int(answered[3]);
    const double stride = double(width) / columns;
    for (const Point& point : decode(average(maps, run(mirrored(values, width)), rows, columns), rows, columns)) {
        const double x = (stride * point.x - crop.left) / crop.factor, y = (stride * point.y - crop.top) / crop.factor;
        std::printf("%.4f %.4f %.6f\n", x, y, point.score);
        for (int row = int(y) - 2; row <= int(y) + 2; row++)
            for (int column = int(x) - 2; column <= int(x) + 2; column++)
                if (point.score > 0.2 && row >= 0 && column >= 0 && row < image.height && column < image.width)
                    std::copy_n((const uint8_t[]){255, 90, 0}, 3, &image.rgb[3 * (size_t(row) * image.width + column)]);
    }
    write_ppm(given[7], image);
} catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 2;
}
