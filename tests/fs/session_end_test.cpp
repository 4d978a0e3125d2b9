// How sessions begin and end: refused mounts, unmounting in all circumstances, signals.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <future>
#include <string>

#include "fs/session.h"
#include "mounted_image.h"
#include "scoped_mount.h"

namespace puzzlefs::fs {
namespace {

using test::directory;
using test::file;
using test::read_file;
using testing::HasSubstr;

class SessionEnd : public testing::Test {
 protected:
  void SetUp() override {
    if (!test::MountedImage::is_possible()) GTEST_SKIP() << "FUSE cannot be used here";
  }

  /// An image of one file, "f", whose only chunk waits for the test.
  void mount_waiting(const SessionOptions& options = {}) {
    image_.source().hold(chunk_.blob);
    image_.mount({directory(1, {{2, "f"}}), file(2, {chunk_})}, options);
  }
  /// A program that reads the file, and waits.
  std::future<std::string> start_reader() {
    auto reader = std::async(std::launch::async, [this] { return read_file(image_ / "f"); });
    image_.source().wait_for_reader(chunk_.blob);
    return reader;
  }

  test::MountedImage image_;
  const format::ChunkRef chunk_ = image_.whole_chunk("text");
};

TEST_F(SessionEnd, ComesWithUnmounting) {
  image_.mount({directory(1, {})});
  unmount(image_.path(), false);
  image_.wait_for_end();
  EXPECT_FALSE(mount_at(image_.path()));
}

TEST_F(SessionEnd, LetsTheSamePlaceBeMountedAgain) {
  image_.mount({directory(1, {{2, "f"}}), file(2, {chunk_})});
  unmount(image_.path(), false);
  image_.wait_for_end();
  image_.end_session();
  image_.mount({directory(1, {{2, "g"}}), file(2, {chunk_})});
  EXPECT_EQ(read_file(image_ / "g"), "text");
}

TEST_F(SessionEnd, IsRefusedWhileBusyUnlessLazy) {
  image_.mount({directory(1, {{2, "f"}}), file(2, {chunk_})});
  {
    const fetch::FileDescriptor open_file(::open((image_ / "f").c_str(), O_RDONLY | O_CLOEXEC));
    try {
      unmount(image_.path(), false);
      FAIL() << "it was not refused";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), EBUSY);
      EXPECT_THAT(error.what(), HasSubstr("is busy"));
    }
    unmount(image_.path(), true);
    EXPECT_FALSE(mount_at(image_.path()));
    std::string text(4, '\0');
    EXPECT_EQ(::read(open_file.get(), text.data(), text.size()), 4) << "it is still served";
  }
  image_.wait_for_end();
}

TEST_F(SessionEnd, WaitsForAReaderAfterALazyUnmount) {
  mount_waiting();
  auto reader = start_reader();
  unmount(image_.path(), true);
  image_.source().let_go(chunk_.blob);
  EXPECT_EQ(reader.get(), "text");
  image_.wait_for_end();
}

class SessionSignal : public SessionEnd, public testing::WithParamInterface<int> {};

TEST_P(SessionSignal, Unmounts) {
  image_.mount({directory(1, {})});
  ::kill(::getpid(), GetParam());
  image_.wait_for_end();
  EXPECT_FALSE(mount_at(image_.path()));
}

TEST_P(SessionSignal, UnmountsWhileAFileIsOpen) {
  image_.mount({directory(1, {{2, "f"}}), file(2, {chunk_})});
  const fetch::FileDescriptor open_file(::open((image_ / "f").c_str(), O_RDONLY | O_CLOEXEC));
  ::kill(::getpid(), GetParam());
  image_.wait_for_end();
  EXPECT_FALSE(mount_at(image_.path()));
  image_.end_session();  // before the file is closed, for which the kernel may ask the server
}

INSTANTIATE_TEST_SUITE_P(Kinds, SessionSignal, testing::Values(SIGTERM, SIGINT, SIGHUP),
                         [](const auto& instance) {
                           return std::string("SIG") + ::sigabbrev_np(instance.param);
                         });

TEST_F(SessionEnd, WaitsForReadsThatAreUnderWayAtASignal) {
  mount_waiting();
  auto reader = start_reader();
  ::kill(::getpid(), SIGTERM);
  image_.wait_for_end();
  EXPECT_FALSE(mount_at(image_.path()));
  auto end = std::async(std::launch::async, [this] { image_.end_session(); });
  image_.source().let_go(chunk_.blob);
  EXPECT_EQ(reader.get(), "text");
  end.get();
}

TEST_F(SessionEnd, CancelsReadsThatAreUnderWayAtASignal) {
  mount_waiting({.cancel_reads = [this] { image_.source().fail_held(chunk_.blob); }});
  auto reader = std::async(std::launch::async, [this] { return test::read_error(image_ / "f"); });
  image_.source().wait_for_reader(chunk_.blob);
  ::kill(::getpid(), SIGTERM);
  image_.wait_for_end();
  image_.end_session();
  EXPECT_NE(reader.get(), 0);
}

TEST_F(SessionEnd, LeavesANewerMountAtTheSamePlaceAlone) {
  image_.mount({directory(1, {{2, "f"}}), file(2, {chunk_})});
  const test::ScopedMount newer(image_.path(), "tmpfs", "");
  ASSERT_TRUE(newer);
  ::kill(::getpid(), SIGTERM);
  image_.wait_for_end();
  image_.end_session();
  const auto mount = mount_at(image_.path());
  ASSERT_TRUE(mount);
  EXPECT_EQ(mount->type, "tmpfs");
}

/// What a session says that cannot begin.
class RefusedMount : public SessionEnd {
 protected:
  std::string refusal(const std::filesystem::path& path) {
    const auto blob = test::one_layer({directory(1, {})});
    const format::Metadata metadata(blob);
    Tree tree(metadata);
    fetch::Runtime runtime(2);
    fetch::BlobStore store(runtime, image_.source(), nullptr);
    fetch::ChunkStore chunks(store, format::Manifest{});
    try {
      const Session session(tree, chunks, path, {});
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  const puzzlefs::test::TempDir directory_;
};

TEST_F(RefusedMount, TellsToMakeAMissingDirectory) {
  EXPECT_THAT(refusal(directory_ / "none"), HasSubstr("none does not exist. Make it with"));
}

TEST_F(RefusedMount, SaysThatAFileIsNoDirectory) {
  std::ofstream(directory_ / "file") << "text";
  EXPECT_THAT(refusal(directory_ / "file"), HasSubstr("it is not a directory"));
}

TEST_F(RefusedMount, TellsToUnmountADeadMountFirst) {
  const auto dead = test::dead_mount(directory_.path());
  ASSERT_TRUE(dead);
  EXPECT_THAT(refusal(directory_.path()), HasSubstr("whose server has died. Unmount it first"));
}

TEST_F(RefusedMount, LeavesNothingMountedWhenTheSessionIsNotRun) {
  EXPECT_EQ(refusal(directory_.path()), "");
  EXPECT_FALSE(mount_at(directory_.path()));
}

}  // namespace
}  // namespace puzzlefs::fs
