// What tests call of the native headers' arithmetic; compiled for several processors.

#include "bytes.h"
#include "products.h"

extern "C" {
// Mixes a bank by shares; also gives the shares' bytes and what one is worth.
void mix_bytes(const int8_t* bank, int64_t size, const float* shares, int64_t count, float* out, uint32_t* words,
               float* unit) {
  const pose::ByteShares found(std::vector<float>(shares, shares + count));
  pose::mix(bank, size, found, out);
  std::copy(found.words.begin(), found.words.end(), words);
  *unit = found.unit;
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
}
