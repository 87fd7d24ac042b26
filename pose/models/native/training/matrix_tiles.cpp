#include "matrix_tiles.h"

#if !defined(POSE_WITHOUT_TILES) && defined(__linux__) && defined(__x86_64__) && defined(__AVX512BF16__) && \
    defined(__AVX512BW__) && __has_include(<amxbf16intrin.h>)  // compilers without it do without tiles
#define POSE_MATRIX_TILES
#include <immintrin.h>

#include "amx_permission.h"
#include "kept.h"
#endif

namespace pose {

#ifdef POSE_MATRIX_TILES

// Functions for AMX are compiled for it whatever the rest is for, so that they are in libraries built ahead, too.
#define FOR_TILES __attribute__((target("amx-tile,amx-bf16")))

namespace {

constexpr int64_t kSide = 16, kDeep = 32;  // rows, or columns of a sum; values of bfloat16 in a tile's row
constexpr int64_t kTileWords = kSide * kSide;

struct alignas(64) Configuration {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

FOR_TILES void begin() {
  static const Configuration whole;
  _tile_loadconfig(&whole);
}

FOR_TILES void end() { _tile_release(); }

// Sums of up to 2 x 2 tiles, in tiles 0 to 3, over `deep` tiles: a's rows lie `stride` bytes from each other, and its next
// tiles `a_step` bytes; of b and of a's second row of tiles the first lie `b_next` and `a_next` bytes further.
template <int kDown, int kRight>
FOR_TILES inline void sum_tiles(const char* a, int64_t stride, int64_t a_step, int64_t a_next, const char* b, int64_t b_step,
                                int64_t b_next, int64_t deep) {
  asm volatile("" ::: "memory");  // compilers do not know that loading a tile reads memory
  _tile_zero(0);
  if (kRight > 1) _tile_zero(1);
  if (kDown > 1) _tile_zero(2);
  if (kDown > 1 && kRight > 1) _tile_zero(3);
  for (int64_t k = 0; k < deep; ++k, a += a_step, b += b_step) {
    _tile_loadd(4, a, stride);
    _tile_loadd(6, b, 64);
    _tile_dpbf16ps(0, 4, 6);
    if (kRight > 1) {
      _tile_loadd(7, b + b_next, 64);
      _tile_dpbf16ps(1, 4, 7);
    }
    if (kDown > 1) {
      _tile_loadd(5, a + a_next, stride);
      _tile_dpbf16ps(2, 5, 6);
      if (kRight > 1) _tile_dpbf16ps(3, 5, 7);
    }
  }
}

// Those sums, (2, 2) tiles one after another, each of rows of 16.
template <int kDown, int kRight>
FOR_TILES inline void store_tiles(float* to) {
  _tile_stored(0, to, 64);
  if (kRight > 1) _tile_stored(1, to + kTileWords, 64);
  if (kDown > 1) _tile_stored(2, to + 2 * kTileWords, 64);
  if (kDown > 1 && kRight > 1) _tile_stored(3, to + 3 * kTileWords, 64);
}

using Sum = void (*)(const char*, int64_t, int64_t, int64_t, const char*, int64_t, int64_t, int64_t, float*);

template <int kDown, int kRight>
FOR_TILES void summed(const char* a, int64_t stride, int64_t a_step, int64_t a_next, const char* b, int64_t b_step,
                      int64_t b_next, int64_t deep, float* to) {
  sum_tiles<kDown, kRight>(a, stride, a_step, a_next, b, b_step, b_next, deep);
  store_tiles<kDown, kRight>(to);
}

Sum sum_of(bool down, bool right) {
  if (down) return right ? summed<2, 2> : summed<2, 1>;
  return right ? summed<1, 2> : summed<1, 1>;
}

// Two rows of 16 values as words of a value of each.
inline __m512i words_at(const uint16_t* low, const uint16_t* high) {
  const auto wide = [](const uint16_t* from) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  };
  return _mm512_or_si512(wide(low), _mm512_slli_epi32(wide(high), 16));
}

// A tile turned: its rows become columns.
inline void turn(const uint32_t* from, uint32_t* to) {
  __m512i a[16], b[16];
  for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_si512(from + 16 * i);
  for (int i = 0; i < 8; ++i) {
    b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    a[4 * i] = _mm512_unpacklo_epi64(b[4 * i], b[4 * i + 2]);
    a[4 * i + 1] = _mm512_unpackhi_epi64(b[4 * i], b[4 * i + 2]);
    a[4 * i + 2] = _mm512_unpacklo_epi64(b[4 * i + 1], b[4 * i + 3]);
    a[4 * i + 3] = _mm512_unpackhi_epi64(b[4 * i + 1], b[4 * i + 3]);
  }
  for (int i = 0; i < 4; ++i) {  // a[4 j + i]: columns i, i + 4, i + 8 and i + 12 of rows 4 j to 4 j + 3
    const __m512i low = _mm512_shuffle_i32x4(a[i], a[4 + i], 0x88), high = _mm512_shuffle_i32x4(a[i], a[4 + i], 0xdd);
    const __m512i below = _mm512_shuffle_i32x4(a[8 + i], a[12 + i], 0x88);
    const __m512i above = _mm512_shuffle_i32x4(a[8 + i], a[12 + i], 0xdd);
    _mm512_storeu_si512(to + 16 * i, _mm512_shuffle_i32x4(low, below, 0x88));
    _mm512_storeu_si512(to + 16 * (i + 4), _mm512_shuffle_i32x4(high, above, 0x88));
    _mm512_storeu_si512(to + 16 * (i + 8), _mm512_shuffle_i32x4(low, below, 0xdd));
    _mm512_storeu_si512(to + 16 * (i + 12), _mm512_shuffle_i32x4(high, above, 0xdd));
  }
}

// Rows (pixels, channels), `apart` values from each other, as tiles of words of two pixels, (deep, channels / 16) of them;
// turned ones have a channel a row.
// Pixels beyond the last are zeros; channels beyond the last are anything finite.
const uint32_t* pixel_tiles(const uint16_t* rows, int64_t apart, int64_t channels, int64_t pixels, bool turned,
                            WordLines& words) {
  static const uint16_t none[kSide] = {};
  const int64_t deep = (pixels + kDeep - 1) / kDeep, wide = (channels + kSide - 1) / kSide;
  words.resize(deep * wide * kTileWords);
  alignas(64) uint32_t tile[kTileWords];
  uint32_t* to = words.data();
  for (int64_t first = 0; first < pixels; first += kDeep)
    for (int64_t c = 0; c < channels; c += kSide, to += kTileWords) {
      uint32_t* const own = turned ? tile : to;
      for (int64_t i = 0; i < kSide; ++i) {
        const int64_t pixel = first + 2 * i;
        const uint16_t* low = pixel < pixels ? rows + pixel * apart + c : none;
        _mm512_storeu_si512(own + i * kSide, words_at(low, pixel + 1 < pixels ? low + apart : none));
      }
      if (turned) turn(tile, to);
    }
  return words.data();
}

// Adds so many rows of a tile's sums to `out`.
inline void add_rows(const float* sums, int64_t rows, float* out, int64_t apart) {
  for (int64_t r = 0; r < rows; ++r, out += apart)
    _mm512_storeu_ps(out, _mm512_loadu_ps(sums + r * kSide) + _mm512_loadu_ps(out));
}

}  // namespace

bool has_matrix_tiles() {
  static const bool has = amx_granted(kAmxTiles | kAmxPairs);
  return has;
}

int64_t tile_words(int64_t rows, int64_t columns) {
  return (columns + kSide - 1) / kSide * ((rows + kDeep - 1) / kDeep) * kTileWords;
}

void pack_tiles(const Panels& panels, uint32_t* words) {
  const int64_t deep = (panels.rows + kDeep - 1) / kDeep * kSide;  // words of a column
  each_panel(panels.rows, panels.columns, [&](int64_t first, int64_t width, int64_t place) {
    for (int64_t column = 0; column < width; column += kSide) {
      uint32_t* to = words + (first + column) * deep;
      const float* from = panels.values + place + column;
      int64_t row = 0;
      for (; row < panels.rows; row += 2, from += 2 * width, to += kSide) {
        const bool both = row + 1 < panels.rows;
        const Lanes high = both ? load<Lanes>(from + width) : Lanes{};
        put_words(to, load<Lanes>(from), high);
      }
      for (; row < 2 * deep; row += 2, to += kSide) std::memset(to, 0, kSide * sizeof(uint32_t));
    }
  });
}

void multiply_tiles(const uint16_t* a, int64_t rows, int64_t pixels, const uint32_t* b, int64_t columns, float* out,
                    int64_t apart, bool add, const float* factors, const float* terms) {
  const int64_t deep = (rows + kDeep - 1) / kDeep, stride = 2 * rows, next = deep * kTileWords;
  alignas(64) float sums[4 * kTileWords];
  begin();
  for (int64_t first = 0; first < columns; first += 2 * kSide) {
    const bool right = first + kSide < columns;
    const char* factor = reinterpret_cast<const char*>(b + first / kSide * next);
    for (int64_t pixel = 0; pixel < pixels; pixel += 2 * kSide) {
      const bool down = pixel + kSide < pixels;
      const char* from = reinterpret_cast<const char*>(a + pixel * rows);
      sum_of(down, right)(from, stride, 64, kSide * stride, factor, 4 * kTileWords, 4 * next, deep, sums);
      const int64_t some = std::min(2 * kSide, pixels - pixel);
      for (int64_t column = first, t = 0; t < 1 + right; ++t, column += kSide) {
        const int64_t left = std::min(kSide, columns - column);
        const __mmask16 mask = static_cast<__mmask16>((1u << left) - 1);
        const __m512 factor_ = factors ? _mm512_loadu_ps(factors + column) : _mm512_set1_ps(1.0f);
        const __m512 term = terms ? _mm512_loadu_ps(terms + column) : _mm512_setzero_ps();
        float* to = out + pixel * apart + column;
        for (int64_t r = 0; r < some; ++r, to += apart) {
          __m512 value = _mm512_load_ps(sums + (r / kSide * 2 + t) * kTileWords + r % kSide * kSide);
          if (factors || terms) value = _mm512_fmadd_ps(value, factor_, term);
          if (add) value += _mm512_maskz_loadu_ps(mask, to);
          _mm512_mask_storeu_ps(to, mask, value);
        }
      }
    }
  }
  end();
}

void multiply_outer_tiles(const uint16_t* a, int64_t rows, const uint16_t* b, int64_t apart, int64_t columns,
                          int64_t pixels, float* out) {
  const bool swapped = rows > columns;  // the narrow side is turned
  const uint16_t *narrow = swapped ? b : a, *wide = swapped ? a : b;
  const int64_t downs = swapped ? columns : rows, rights = swapped ? rows : columns;
  const int64_t deep = (pixels + kDeep - 1) / kDeep;
  thread_local WordLines left, right;
  const auto* from = reinterpret_cast<const char*>(pixel_tiles(narrow, swapped ? apart : rows, downs, pixels, true, left));
  const auto* with = reinterpret_cast<const char*>(pixel_tiles(wide, swapped ? rows : apart, rights, pixels, false, right));
  constexpr int64_t size = 4 * kTileWords;  // bytes of a tile
  const int64_t a_step = (downs + kSide - 1) / kSide * size, b_step = (rights + kSide - 1) / kSide * size;
  alignas(64) float sums[4 * kTileWords], turned[kTileWords];
  begin();
  for (int64_t down = 0; down < downs; down += 2 * kSide)
    for (int64_t across = 0; across < rights; across += 2 * kSide) {
      const bool two = down + kSide < downs, wide_too = across + kSide < rights;
      sum_of(two, wide_too)(from + down / kSide * size, 64, a_step, size, with + across / kSide * size, b_step, size, deep,
                            sums);
      for (int64_t t = 0; t < 4; ++t) {
        const int64_t i = down + t / 2 * kSide, j = across + t % 2 * kSide;
        if (i >= downs || j >= rights) continue;
        const int64_t row = swapped ? j : i, column = swapped ? i : j;
        const float* own = sums + t * kTileWords;
        if (swapped) {
          turn(reinterpret_cast<const uint32_t*>(own), reinterpret_cast<uint32_t*>(turned));
          own = turned;
        }
        const PanelPlace panel = panel_of(columns, column);
        float* to = out + panel.first * rows + row * panel.width + column - panel.first;
        add_rows(own, std::min(kSide, rows - row), to, panel.width);
      }
    }
  end();
}

#else

bool has_matrix_tiles() { return false; }
int64_t tile_words(int64_t, int64_t) { return 0; }
void pack_tiles(const Panels&, uint32_t*) {}
void multiply_tiles(const uint16_t*, int64_t, int64_t, const uint32_t*, int64_t, float*, int64_t, bool, const float*,
                    const float*) {}
void multiply_outer_tiles(const uint16_t*, int64_t, const uint16_t*, int64_t, int64_t, int64_t, float*) {}

#endif

}  // namespace pose
