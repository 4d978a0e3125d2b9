#include "fetch/fetch_claims.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "../support/temp_dir.h"

namespace puzzlefs::fetch {
namespace {

class FetchClaimsTest : public ::testing::Test {
 protected:
  test::TempDir temp_;
  const std::filesystem::path file_ = temp_ / "claims";
  const format::Digest blob_ = format::sha256(as_bytes("a blob"));
  const format::Digest other_blob_ = format::sha256(as_bytes("another"));
  FetchClaims claims_{file_};
  FetchClaims others_{file_};  // as those of another process
};

TEST_F(FetchClaimsTest, OneHasABlobAtATime) {
  auto claim = claims_.claim(blob_);
  EXPECT_TRUE(claim);
  EXPECT_FALSE(claims_.claim(blob_));
  EXPECT_FALSE(others_.claim(blob_));
  claim.reset();
  EXPECT_TRUE(others_.claim(blob_));
  EXPECT_TRUE(claims_.claim(blob_));
}

TEST_F(FetchClaimsTest, BlobsDoNotMatterToEachOther) {
  const auto claim = claims_.claim(blob_);
  auto other = claims_.claim(other_blob_);
  EXPECT_TRUE(other);
  other.reset();
  EXPECT_FALSE(others_.claim(blob_));
}

TEST_F(FetchClaimsTest, AMovedClaimIsReleasedOnce) {
  auto claim = claims_.claim(blob_);
  auto moved = std::move(claim);
  claim.reset();
  EXPECT_FALSE(others_.claim(blob_));
  moved.reset();
  EXPECT_TRUE(others_.claim(blob_));
}

TEST_F(FetchClaimsTest, BlobsThatShareAByteAreReleasedTogether) {
  Bytes raw(blob_.bytes().begin(), blob_.bytes().end());
  raw.back() ^= std::byte{1};
  const auto alike = format::Digest::from_bytes(raw);
  auto claim = claims_.claim(blob_);
  auto second = claims_.claim(alike);
  ASSERT_TRUE(second);
  claim.reset();
  EXPECT_FALSE(others_.claim(alike));
  second.reset();
  EXPECT_TRUE(others_.claim(alike));
}

TEST_F(FetchClaimsTest, AKilledProcessHasNone) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    FetchClaims claims(file_);
    const auto claim = claims.claim(blob_);
    if (::write(ends[1], claim ? "y" : "n", 1) == 1) ::pause();
    std::_Exit(1);
  }
  char claimed = 0;
  ASSERT_EQ(::read(ends[0], &claimed, 1), 1);
  EXPECT_EQ(claimed, 'y');
  EXPECT_FALSE(claims_.claim(blob_));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(claims_.claim(blob_));
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_F(FetchClaimsTest, ADeletedFileIsMadeAnew) {
  claims_.claim(blob_).reset();
  std::filesystem::remove(file_);
  const auto claim = claims_.claim(blob_);
  EXPECT_FALSE(others_.claim(blob_));
}

TEST_F(FetchClaimsTest, WithoutAFileTheyHoldInThisProcess) {
  FetchClaims claims(temp_ / "absent" / "claims");
  const auto claim = claims.claim(blob_);
  EXPECT_TRUE(claim);
  EXPECT_FALSE(claims.claim(blob_));
}

}  // namespace
}  // namespace puzzlefs::fetch
