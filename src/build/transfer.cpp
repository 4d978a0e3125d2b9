// Moving images: what there is to move, what the target has of it, and the order of writing.
#include "build/transfer.h"

#include <limits>
#include <utility>

#include "build/transfer_queue.h"
#include "fetch/then.h"

namespace puzzlefs::build {
namespace {

using fetch::Completion;
using fetch::then;
using format::Descriptor;

// What blobs may take at once of memory, where they are held there.
constexpr std::uint64_t kMaxBytesInMemory = kMaxForeignBlobSize;

ImageParts find_parts(ImageSource& source, const TransferOptions& options) {
  const auto read = [&source](const Descriptor& descriptor) { return source.document(descriptor); };
  const auto name = source.name();
  auto top = source.top();
  if (options.platform) top = choose_manifest(std::move(top), name, *options.platform, read);
  auto parts = collect_parts(std::move(top), name, read);
  if (options.only_puzzlefs && format::is_manifest(parts.top.descriptor.media_type)) {
    metadata_layer(format::parse_manifest(parts.top.bytes, name), name);
  }
  if (source.holds_in_memory()) check_blob_sizes(parts, name);
  return parts;
}

// How one blob is moved.
StartMove mover(ImageSource& source, ImageTarget& target, const KnownParts& known, bool all_known,
                bool dry_run) {
  return [&source, &target, &known, all_known, dry_run](const Descriptor& blob,
                                                        const Completion<Movement>& done) {
    if (all_known || known.digests.contains(blob.digest)) return done(Movement::kPresent);
    target.has(blob, then<bool>(done, [&source, &target, &blob, dry_run, done](bool has) {
                 if (has) return done(Movement::kPresent);
                 if (dry_run) return done(target.expected_movement(blob));
                 const auto get = [&source, &blob](Completion<fetch::RequestBody> got) {
                   source.get(blob, std::move(got));
                 };
                 target.put(blob, get, done);
               }));
  };
}

}  // namespace

TransferResult transfer(ImageSource& source, ImageTarget& target, const TransferOptions& options) {
  const ImageParts parts = find_parts(source, options);
  const KnownParts known = target.known(parts);
  const bool unchanged = known.top == parts.top.descriptor.digest;
  if (!options.dry_run) target.begin();

  const auto most_bytes =
      source.holds_in_memory() ? kMaxBytesInMemory : std::numeric_limits<std::uint64_t>::max();
  TransferResult result;
  static_cast<TransferCounts&>(result) =
      move_blobs(parts.blobs, most_bytes, mover(source, target, known, unchanged, options.dry_run),
                 options.on_progress);
  result.manifest = parts.top.descriptor;
  if (options.dry_run || unchanged) return result;
  for (const auto& document : parts.documents) {
    if (!known.digests.contains(document.descriptor.digest)) target.put_document(document);
  }
  target.tag(parts.top);
  return result;
}

}  // namespace puzzlefs::build
