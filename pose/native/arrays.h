// What layers are made of and what they work on: constants that somebody else keeps, and images.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <utility>
#include <vector>

namespace pose {

// Says what is wrong with what a caller gave, in one line.
template <typename... Parts>
[[noreturn]] inline void refuse(const Parts&... parts) {
  std::ostringstream line;
  (line << ... << parts);
  throw std::runtime_error(line.str());
}

// Channels of an image, and values of an image or a kernel: at most so many.
constexpr int64_t kMostChannels = int64_t{1} << 20, kMostValues = int64_t{1} << 32;

// float32, bfloat16 in words as lanes.h has those of banks and matrices and pairs.h those of kernels, or signed bytes as
// bytes.h has them.
enum class Type : int32_t { kFloat, kWords, kBytes };

// A vector (rows 1) or a matrix (rows, columns), contiguous; the caller keeps it for as long as the program lives. No data:
// there is none.
struct Constant {
  const void* data;
  Type type;
  int64_t rows, columns;

  bool defined() const { return data != nullptr; }
  int64_t size() const { return rows * columns; }
  bool in_floats() const { return type == Type::kFloat; }
  bool in_words() const { return type == Type::kWords; }
  bool in_bytes() const { return type == Type::kBytes; }
  const float* floats() const { return static_cast<const float*>(data); }
  const uint16_t* words() const { return static_cast<const uint16_t*>(data); }
  const int8_t* bytes() const { return static_cast<const int8_t*>(data); }
};

// Memory of images that are gone, for those that come: a network's next image fits where its last ones were, and the
// system need not clear pages for it. Each thread has its own.
class Spare {
 public:
  ~Spare() {
    for (const auto& block : blocks_) std::free(block.second);
    open() = false;
  }

  static std::shared_ptr<float> take(int64_t values) {
    const size_t bytes = (static_cast<size_t>(values) * sizeof(float) + 63) / 64 * 64;
    Spare& spare = of_this_thread();
    for (size_t i = spare.blocks_.size(); i-- > 0;)  // the last one that was given back is still in the cache
      if (spare.blocks_[i].first >= bytes) {
        const auto block = spare.blocks_[i];
        spare.blocks_.erase(spare.blocks_.begin() + static_cast<int64_t>(i));
        return shared(block.first, block.second);
      }
    void* memory = std::aligned_alloc(64, bytes ? bytes : 64);
    if (!memory) throw std::bad_alloc();
    return shared(bytes, memory);
  }

 private:
  static constexpr size_t kMost = 6;

  static std::shared_ptr<float> shared(size_t bytes, void* memory) {
    return {static_cast<float*>(memory), [bytes](float* block) { give_back(bytes, block); }};
  }

  static void give_back(size_t bytes, void* memory) {
    if (!open()) return std::free(memory);  // the thread ends
    std::vector<std::pair<size_t, void*>>& blocks = of_this_thread().blocks_;
    blocks.emplace_back(bytes, memory);
    if (blocks.size() <= kMost) return;
    std::free(blocks.front().second);
    blocks.erase(blocks.begin());
  }

  static bool& open() {
    static thread_local bool is_open = true;
    return is_open;
  }

  static Spare& of_this_thread() {
    static thread_local Spare spare;
    return spare;
  }

  std::vector<std::pair<size_t, void*>> blocks_;
};

// One image of float32, pixel by pixel with its channels together (channels_last), unless said otherwise.
struct Image {
  int64_t channels = 0, rows = 0, columns = 0;
  float* data = nullptr;
  std::shared_ptr<float> memory;  // none where somebody else keeps it

  bool defined() const { return data != nullptr; }
  int64_t pixels() const { return rows * columns; }
  int64_t size() const { return channels * rows * columns; }
  bool has_shape_of(const Image& other) const {
    return channels == other.channels && rows == other.rows && columns == other.columns;
  }

  // One whose values are still to be written, at `to` if given.
  static Image blank(int64_t channels, int64_t rows, int64_t columns, float* to = nullptr) {
    Image image = {channels, rows, columns, to, nullptr};
    if (!to) {
      image.memory = Spare::take(image.size());
      image.data = image.memory.get();
    }
    return image;
  }
};

}  // namespace pose
