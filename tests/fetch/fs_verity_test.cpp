// On a file system with fs-verity these see it at work, elsewhere that it is missed politely. The
// scenario e2e.fs_verity has both.
#include "fetch/fs_verity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "../support/temp_dir.h"
#include "format/error.h"
#include "format/verity.h"

namespace puzzlefs::fetch {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

class FsVerityTest : public ::testing::Test {
 protected:
  FsVerityTest() { std::ofstream(path_) << "content"; }

  FileDescriptor open() const { return open_regular_file(path_); }
  static FsVerityCheck::Records no_records() {
    return [](const format::Digest&) { return std::nullopt; };
  }
  static FsVerityCheck::Records records_of(std::string_view content) {
    return [verity = format::verity_digest(as_bytes(content))](const format::Digest&) {
      return verity;
    };
  }

  test::TempDir temp_;
  const std::filesystem::path path_ = temp_ / "blob";
  const format::Digest blob_ = format::sha256(as_bytes("content"));
};

TEST_F(FsVerityTest, AnOrdinaryFileHasNoMeasurement) {
  EXPECT_EQ(measure_fs_verity(open(), path_), std::nullopt);
}

TEST_F(FsVerityTest, IsEnabledOrSaysWhatItTakes) {
  try {
    enable_fs_verity(open(), path_);
    EXPECT_EQ(measure_fs_verity(open(), path_), format::verity_digest(as_bytes("content")));
    enable_fs_verity(open(), path_);
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr(path_.native()), HasSubstr("CONFIG_FS_VERITY"),
                                    HasSubstr("tune2fs -O verity"), HasSubstr("btrfs")));
    EXPECT_EQ(measure_fs_verity(open(), path_), std::nullopt);
  }
}

TEST_F(FsVerityTest, AFileWithoutItMustBeHashed) {
  FsVerityCheck check(false, records_of("content"));
  EXPECT_FALSE(check.covers(open(), path_, blob_));
  FsVerityCheck without_records(false, no_records());
  EXPECT_FALSE(without_records.covers(open(), path_, blob_));
}

TEST_F(FsVerityTest, AFileWithoutItIsAnErrorWhereItIsRequired) {
  FsVerityCheck check(true, records_of("content"));
  EXPECT_THAT([&] { check.covers(open(), path_, blob_); },
              ThrowsMessage<Error>(
                  AllOf(HasSubstr(path_.native()), HasSubstr("puzzlefs enable-fs-verity"))));
}

TEST_F(FsVerityTest, WhatIsMeasuredMustBeWhatIsRecorded) {
  try {
    enable_fs_verity(open(), path_);
  } catch (const Error&) {
    GTEST_SKIP() << "needs a file system with fs-verity";
  }
  FsVerityCheck right(true, records_of("content"));
  EXPECT_TRUE(right.covers(open(), path_, blob_));
  FsVerityCheck wrong(false, records_of("other"));
  EXPECT_THROW(wrong.covers(open(), path_, blob_), CorruptError);
  FsVerityCheck unrecorded(true, no_records());
  EXPECT_THROW(unrecorded.covers(open(), path_, blob_), Error);
}

}  // namespace
}  // namespace puzzlefs::fetch
