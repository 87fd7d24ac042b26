// What tests call of the native headers' arithmetic; compiled for several processors.

#include "amx.h"
#include "bytes.h"
#include "channel_bytes.h"
#include "convolutions.h"
#include "panels.h"
#include "products.h"
#include "strips.h"

extern "C" {
// Mixes a bank by shares; also gives the shares' bytes and what one is worth.
void mix_bytes(const int8_t* bank, int64_t size, const float* shares, int64_t count, float* out, uint32_t* words,
               float* unit) {
  const pose::ByteShares found(std::vector<float>(shares, shares + count));
  pose::mix(bank, size, found, out);
  std::copy(found.words.begin(), found.words.end(), words);
  *unit = found.unit;
}

// A bank of bytes (words of shares, taps, inputs, 16, 4) mixed by shares to a block of `size` values; also the shares' bytes
// and what one is worth. 0 where its mixtures would not be added up exactly.
int64_t mix_block(const int8_t* bank, int64_t taps, int64_t inputs, const float* shares, int64_t count, const float* levels,
                  const float* scale, const float* bias, float* block, uint32_t* words, float* unit) {
  const pose::ByteParts parts(std::vector<float>(shares, shares + count));
  if (!pose::mixes_exactly(bank, static_cast<int64_t>(parts.words.size()) * taps, inputs)) return 0;
  pose::mix_block(bank, taps, inputs, parts, {levels[0], levels[1]}, scale, bias, block);
  std::copy(parts.words.begin(), parts.words.end(), words);
  *unit = parts.unit;
  return 1;
}

void multiply_bytes(const int8_t* matrix, int64_t outputs, const float* vector, int64_t inputs, const float* scales,
                    float* out) {
  const auto columns = pose::column_sums(matrix, outputs / 16, (inputs + 3) / 4);
  pose::multiply_vector(matrix, columns, scales, pose::FourteenBits(vector, inputs), out);
}

// Pixels (count, words, 4) times a panel (words, 16, 4).
void multiply_pixels(const uint8_t* pixels, int64_t count, int64_t words, const int8_t* weights, const float* scale,
                     const float* bias, float* y) {
  std::vector<const uint8_t*> addresses;
  for (int64_t i = 0; i < count; ++i) addresses.push_back(pixels + 4 * words * i);
  pose::Panel panel;
  panel.bytes = {addresses.data(), 1, words, weights};
  panel.scale = scale;
  panel.bias = bias;
  panel.y = y;
  panel.pitch = 16;
  pose::multiply(panel, count);
}

// The same to bytes by levels, activated.
void multiply_to_bytes(const uint8_t* pixels, int64_t count, int64_t words, const int8_t* weights, const float* scale,
                       const float* bias, float unit, float zero, int64_t activation, int64_t width, uint8_t* y) {
  std::vector<const uint8_t*> addresses;
  for (int64_t i = 0; i < count; ++i) addresses.push_back(pixels + 4 * words * i);
  pose::Panel panel;
  panel.bytes = {addresses.data(), 1, words, weights};
  panel.scale = scale;
  panel.bias = bias;
  panel.y_bytes = y;
  panel.to_bytes = pose::ToBytes({unit, zero}, activation);
  panel.pitch = panel.width = width;
  panel.activation = activation;
  pose::multiply(panel, count);
}

// A depthwise kernel of bytes (kh kw, C) on an image (H, W, C filled up to words), the numbers as a layer has them, to
// float32, or to bytes where they are wanted: then their parts, `found`, are 2^bits a byte, or none where bits is 0.
void multiply_channels(const uint8_t* image, const int64_t* numbers, int64_t rows, int64_t columns, const int8_t* kernels,
                       const float* worth, const float* bias, const float* levels, const float* wanted, float* y,
                       uint8_t* y_bytes, int16_t* factor, int16_t* shift, int64_t* bits) {
  const pose::Geometry g = {{numbers[0], numbers[1]}, {numbers[2], numbers[3]}, {numbers[4], numbers[5]}, {1, 1}};
  const pose::Levels from = {levels[0], levels[1]}, to = {wanted[0], wanted[1]};
  const int64_t channels = numbers[8], activation = numbers[11];
  const pose::ByteTaps taps(g, channels, kernels, worth, bias, from);
  pose::Image x = {channels, rows, columns, const_cast<float*>(reinterpret_cast<const float*>(image)), nullptr};
  pose::Ends ends = {activation};
  ends.from = {pose::kPixels, from};
  ends.to = {pose::kPixels, to};
  const pose::Image found = pose::convolve_channel_bytes(x, g, taps, from, ends);
  if (!to) return static_cast<void>(std::copy_n(found.data, found.size(), y));
  for (int64_t i = 0; i < found.pixels(); ++i)
    std::copy_n(pose::bytes_in(found) + i * pose::bytes_of(channels), channels, y_bytes + i * channels);
  const pose::WordEnds words(taps, to, activation);
  *bits = words.usable() && activation != pose::kHardswish ? words.of(0).bits : 0;
  for (int64_t c = 0; *bits && c < channels; ++c) {
    const pose::WordEnd end = words.of(c / pose::kPanel);
    factor[c] = end.factor[c % pose::kPanel], shift[c] = end.bias[c % pose::kPanel];
  }
}

// Pixels (count, C) times a panel (C, 16), both float32, in bfloat16.
void multiply_rounded(const float* pixels, int64_t count, int64_t channels, const float* weights, const float* bias, float* y) {
  const int64_t words = (channels + 1) / 2;
  std::vector<uint16_t> image(2 * words * count), kernel(words * 32);
  pose::to_pairs(pixels, count, channels, image.data());
  pose::make_pairs(weights, 1, channels, kernel.data());
  std::vector<const uint16_t*> addresses;
  for (int64_t i = 0; i < count; ++i) addresses.push_back(image.data() + 2 * words * i);
  pose::Panel panel;
  panel.pairs = {addresses.data(), 1, words, kernel.data()};
  panel.bias = bias;
  panel.y = y;
  panel.pitch = 16;
  pose::multiply(panel, count);
}

// Words of pixels, `stride` bytes apart, times one or two panels (panels, words, 64 bytes) of float32 (kind 0), bfloat16 or
// bytes: (count, 32), of which panels of sixteen are written, and the answers' sums. By AMX if wanted.
void multiply_near(int64_t kind, const char* pixels, int64_t count, int64_t stride, int64_t words, const char* weights,
                      int64_t panels, int64_t width, const float* scale, const float* bias, int64_t activation,
                      int64_t by_amx, float* y, float* sums) {
  const int64_t parts = by_amx ? pose::tile_parts(words) : 0;
  pose::Panel both[2];
  for (int64_t i = 0; i < panels; ++i) {
    both[i].scale = scale + 16 * i;
    both[i].bias = bias + 16 * i;
    both[i].y = y + 16 * i;
    both[i].sums = sums + 16 * i;
    both[i].pitch = 32;
    both[i].width = i + 1 < panels ? 16 : width;
    both[i].activation = activation;
  }
  const pose::Strided product = {both, pixels, weights, stride, words, 64 * words};
  pose::TileRegisters registers;
  if (kind == 0)
    pose::multiply_near<float>(product, panels, count, parts, registers);
  else if (kind == 1)
    pose::multiply_near<uint16_t>(product, panels, count, parts, registers);
  else
    pose::multiply_near<uint8_t>(product, panels, count, parts, registers);
}

// Whether products at one distance are a way of their own, and whether tile registers are to be had.
int64_t has_strided() { return pose::kHasStrided; }
int64_t has_amx() { return pose::has_amx(); }

int64_t parts_of(int64_t words) { return pose::tile_parts(words); }

// Rows at a time of a 1 x 1, a depthwise 5 x 5 and a 1 x 1 layer with so many channels between them; 0: whole images.
int64_t strip_rows(int64_t rows, int64_t columns, int64_t channels, int64_t in_bytes) {
  const pose::Geometry point = {{1, 1}, {1, 1}, {0, 0}, {1, 1}}, five = {{5, 5}, {1, 1}, {2, 2}, {1, 1}};
  const pose::StaticLayer enter({point, 16, channels, false, 0}, {}, {}), leave({point, channels, 16, false, 0}, {}, {});
  const pose::StaticLayer depthwise({five, channels, channels, true, 0}, {}, {});
  pose::Strips strips(enter, depthwise, leave, {16, rows, columns, nullptr, nullptr});
  strips.middle.order = pose::kPlanes;
  if (in_bytes) strips.middle.levels = strips.after.levels = {1, 0};
  strips.choose();
  return strips.rows;
}
}
