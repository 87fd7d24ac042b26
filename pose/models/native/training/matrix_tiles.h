// Products of bfloat16 by AMX, whose tiles of 16 rows of 64 bytes are multiplied by one instruction: where the processor
// has it and the system lets a process use it. What the functions do is what row_products.h says of their namesakes.

#pragma once

#include "factors.h"

namespace pose {

// Whether there are such tiles.
bool has_matrix_tiles();

// A factor as tiles: of 16 columns each, 16 words of a column's two neighbouring rows after another. How many words they
// are, and these made.
int64_t tile_words(int64_t rows, int64_t columns);
void pack_tiles(const Panels& panels, uint32_t* words);

// Rows of a, of so many values, lie one after another.
void multiply_tiles(const uint16_t* a, int64_t rows, int64_t pixels, const uint32_t* b, int64_t columns, float* out,
                    int64_t apart, bool add, const float* factors, const float* terms);
void multiply_outer_tiles(const uint16_t* a, int64_t rows, const uint16_t* b, int64_t apart, int64_t columns,
                          int64_t pixels, float* out);

}  // namespace pose
