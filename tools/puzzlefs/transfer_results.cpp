#include "puzzlefs/transfer_results.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "puzzlefs/results.h"

namespace puzzlefs::tools {

namespace {

std::string progress_note(const build::TransferProgress& at) {
  auto note = fmt::format("{} of {} blobs ({} new, ", at.blobs_done, at.blobs_total,
                          human_size(at.moved_bytes));
  if (at.mounted_blobs != 0) note += human_size(at.mounted_bytes) + " mounted, ";
  return note + human_size(at.present_bytes) + " there)";
}

}  // namespace

build::ProgressCallback show_in(Progress& progress) {
  return [&progress](const build::TransferProgress& at) {
    progress.update({.bytes = at.bytes_done,
                     .total = at.bytes_total,
                     .moved = at.moved_bytes,
                     .note = progress_note(at)});
  };
}

void print_transfer(Terminal& terminal, OutputFormat format, const TransferTitle& title,
                    const build::TransferResult& result) {
  if (format == OutputFormat::kJson) {
    return write_json(terminal, {{"name", title.name},
                                 {"digest", result.manifest.digest.to_string()},
                                 {"new_blobs", result.moved_blobs},
                                 {"new_bytes", result.moved_bytes},
                                 {"mounted_blobs", result.mounted_blobs},
                                 {"mounted_bytes", result.mounted_bytes},
                                 {"present_blobs", result.present_blobs},
                                 {"present_bytes", result.present_bytes},
                                 {"dry_run", title.dry_run}});
  }
  terminal.out << fmt::format(
      "{} {}@{}: {} ({}), ", title.done, title.name, result.manifest.digest.to_string(),
      counted(result.moved_blobs, "new blob"), human_size(result.moved_bytes));
  if (result.mounted_blobs != 0) {
    terminal.out << fmt::format("{} mounted ({}), ", result.mounted_blobs,
                                human_size(result.mounted_bytes));
  }
  terminal.out << fmt::format("{} already there ({}).\n", result.present_blobs,
                              human_size(result.present_bytes));
}

}  // namespace puzzlefs::tools
