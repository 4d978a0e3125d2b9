#include "build/enable_verity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "../support/temp_dir.h"
#include "build/build_image.h"
#include "fetch/fs_verity.h"
#include "format/error.h"
#include "format/verity.h"
#include "trees.h"

namespace puzzlefs::build {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

class EnableVerity : public testing::Test {
 protected:
  EnableVerity() {
    fs::create_directory(root_);
    test::write_file(root_ / "file", test::noise(500'000, "file"));
    verity_ = build_image(root_, layout_, "tag", {}).manifest_verity;
  }

  std::string failure(const std::string& tag, const format::Digest& verity) {
    try {
      enable_verity(runtime_, {layout_.path(), tag}, verity);
    } catch (const Error& error) {
      return error.what();
    }
    return "no failure";
  }

  fs::path blob_of_layer(std::size_t index) const {
    const auto layer = test::layer_digests(layout_, "tag").at(index);
    return layout_.blob_path(format::Digest::parse_hex(layer));
  }

  void expect_nothing_enabled() const {
    for (const auto& blob : fs::directory_iterator(layout_.path() / "blobs/sha256")) {
      const auto file = fetch::open_regular_file(blob.path());
      EXPECT_EQ(fetch::measure_fs_verity(file, blob.path()), std::nullopt);
    }
  }

  const test::TempDir scratch_;
  const fs::path root_ = scratch_ / "root";
  const fetch::Layout layout_ = fetch::Layout::create(scratch_ / "layout");
  format::Digest verity_;
  fetch::Runtime runtime_{2};
};

TEST_F(EnableVerity, CoversTheWholeImageOrSaysWhatItTakes) {
  const auto said = failure("tag", verity_);
  if (said != "no failure") {
    EXPECT_THAT(
        said, AllOf(HasSubstr(layout_.resolve("tag").digest.hex()), HasSubstr("CONFIG_FS_VERITY")));
    expect_nothing_enabled();
    return;
  }
  const auto image = fetch::Image::open(runtime_, format::LayoutName{layout_.path(), "tag"},
                                        {.manifest_verity = verity_, .require_fs_verity = true});
  fetch::wait_for<fetch::BlobData>(
      [&](auto done) { image->blobs().read(image->manifest().layers.back(), std::move(done)); });
}

TEST_F(EnableVerity, RefusesAWrongDigestAndChangesNothing) {
  EXPECT_THAT(failure("tag", format::Digest()),
              AllOf(HasSubstr(layout_.resolve("tag").digest.hex()), HasSubstr(verity_.hex()),
                    HasSubstr(format::Digest().hex())));
  expect_nothing_enabled();
}

TEST_F(EnableVerity, NamesAMissingChunkAndChangesNothing) {
  fs::remove(blob_of_layer(3));
  EXPECT_THAT(failure("tag", verity_), HasSubstr(blob_of_layer(3).native() + " is missing"));
  expect_nothing_enabled();
}

TEST_F(EnableVerity, NamesFalsifiedMetadataAndChangesNothing) {
  test::write_file(blob_of_layer(0), "other");
  EXPECT_THAT(failure("tag", verity_), HasSubstr(blob_of_layer(0).native()));
  expect_nothing_enabled();
}

TEST_F(EnableVerity, RefusesAnImageThatRecordsNoDigests) {
  format::InodeRecord root;
  root.ino = format::kRootInode;
  root.type = format::FileType::kDirectory;
  test::write_image(layout_, {{root}}, {"chunk"});
  layout_.write_blob(format::empty_config().digest, as_bytes(format::kEmptyConfigBlob));
  const auto manifest = test::read_file(layout_.blob_path(layout_.resolve("hostile").digest));
  EXPECT_THAT(failure("hostile", format::verity_digest(as_bytes(manifest))),
              HasSubstr("no fs-verity digest"));
  expect_nothing_enabled();
}

TEST_F(EnableVerity, NamesTheTagsThereAre) {
  EXPECT_THAT(failure("other", verity_), HasSubstr("Its tags are: tag"));
}

}  // namespace
}  // namespace puzzlefs::build
