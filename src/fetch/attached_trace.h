// Traces that were attached to images in their registry, so that whoever mounts one knows what a
// start will need (doc/format.md, "Attached traces").
#pragma once

#include <cstdint>
#include <optional>

#include "fetch/outcome.h"
#include "fetch/registry.h"
#include "fetch/runtime.h"
#include "format/bytes.h"
#include "format/digest.h"
#include "format/oci.h"
#include "format/rfc3339.h"
#include "format/trace.h"

namespace puzzlefs::fetch {

/// A larger one is neither attached nor taken: its image would have some 15 GB.
inline constexpr std::uint64_t kMaxAttachedTrace = 16 << 20;

struct AttachedTrace {
  format::Digest manifest;  // that attaches it
  format::Descriptor blob;  // its text
};

/// The document that attaches the trace `blob` to the manifest `subject`.
Bytes trace_manifest(const format::Descriptor& subject, const format::Descriptor& blob,
                     format::Time created);

/// Finds the trace that was attached last to the manifest `subject`, by the times that the
/// registry's list says, else the last that it lists; nothing if there is none. Fails with
/// CorruptError for one that is not as trace_manifest() makes it, and as Registry does, which must
/// outlive the operation. `done` runs on the loop.
void find_attached_trace(Registry& registry, const format::Digest& subject,
                         Completion<std::optional<AttachedTrace>> done);

/// Gets the text and verifies it. Fails with CorruptError for one that is wrong, no trace or too
/// large, and as Registry does. Both must outlive the operation. `done` runs on a worker, or on the
/// loop.
void read_attached_trace(Runtime& runtime, Registry& registry, const format::Descriptor& blob,
                         Completion<format::Trace> done);

}  // namespace puzzlefs::fetch
