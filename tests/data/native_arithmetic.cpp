// What tests call of the headers of whole-number arithmetic; compiled for several processors.

#include "bytes.h"

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
}
