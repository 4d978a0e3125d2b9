// A map that forgets what was put in first.
#pragma once

#include <cstddef>
#include <iterator>
#include <list>
#include <unordered_map>
#include <utility>

namespace puzzlefs::fetch {

/// Holds at most so many entries. Not thread-safe.
template <class Key, class Value>
class BoundedMap {
 public:
  explicit BoundedMap(std::size_t max_size) : max_size_(max_size) {}

  /// The value of `key`, which is valid until the next call of any method; null if there is none.
  Value* find(const Key& key) {
    const auto found = by_key_.find(key);
    return found == by_key_.end() ? nullptr : &found->second->second;
  }
  /// As find(), but a value is made if there is none, and the oldest goes if there are too many.
  Value& operator[](const Key& key) {
    if (auto* const value = find(key)) return *value;
    entries_.emplace_back(key, Value());
    by_key_[key] = std::prev(entries_.end());
    if (entries_.size() > max_size_) {
      by_key_.erase(entries_.front().first);
      entries_.pop_front();
    }
    return entries_.back().second;
  }
  void erase(const Key& key) {
    const auto found = by_key_.find(key);
    if (found == by_key_.end()) return;
    entries_.erase(found->second);
    by_key_.erase(found);
  }

 private:
  using Entries = std::list<std::pair<Key, Value>>;

  const std::size_t max_size_;
  Entries entries_;  // in the order in which they came
  std::unordered_map<Key, typename Entries::iterator> by_key_;
};

}  // namespace puzzlefs::fetch
