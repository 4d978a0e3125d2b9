// How passthrough is agreed on: what is changed in the answer to INIT, and what is left alone.
#include "fs/passthrough.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fuse.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace puzzlefs::fs {
namespace {

constexpr std::uint32_t kOffer = 1U << 5;
constexpr std::uint64_t kId = 77;

template <class T>
std::string bytes_of(const T& value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

struct Request {
  fuse_in_header header{};
  fuse_init_in init{};

  std::string bytes() const { return bytes_of(header) + bytes_of(init); }
};

Request offering() {
  Request request;
  request.header.opcode = FUSE_INIT;
  request.header.unique = kId;
  request.init.major = 7;
  request.init.minor = 40;
  request.init.flags = FUSE_INIT_EXT | FUSE_ASYNC_READ;
  request.init.flags2 = kOffer;
  return request;
}

struct Reply {
  fuse_out_header header{};
  fuse_init_out init{};
};

Reply ordinary_reply() {
  Reply reply;
  reply.header.len = sizeof reply.header + sizeof reply.init;
  reply.header.unique = kId;
  reply.init.major = 7;
  reply.init.minor = 38;
  reply.init.flags = FUSE_ASYNC_READ;
  reply.init.max_write = 4096;
  return reply;
}

class PassthroughTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(::pipe2(ends_.data(), O_CLOEXEC), 0); }
  ~PassthroughTest() override {
    for (const int end : ends_) ::close(end);
  }

  /// Has it read a request that comes from a kernel.
  void receive(Passthrough& passthrough, const std::string& request) {
    ASSERT_EQ(::write(ends_[1], request.data(), request.size()),
              static_cast<ssize_t>(request.size()));
    std::string read(1000, '\0');
    ASSERT_EQ(passthrough.read(ends_[0], read.data(), read.size()),
              static_cast<ssize_t>(request.size()));
    EXPECT_EQ(read.substr(0, request.size()), request);
  }
  /// What arrives of the reply, of whose body libfuse sends the first `size` bytes.
  std::string sent(Passthrough& passthrough, Reply reply, std::size_t size = sizeof(Reply::init)) {
    const std::array<iovec, 2> vectors{iovec{&reply.header, sizeof reply.header},
                                       iovec{&reply.init, size}};
    const auto written = passthrough.writev(ends_[1], vectors.data(), 2);
    EXPECT_EQ(written, static_cast<ssize_t>(sizeof reply.header + size));
    std::string arrived(1000, '\0');
    const auto count = ::read(ends_[0], arrived.data(), arrived.size());
    arrived.resize(static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
    return arrived;
  }
  static std::string unchanged(const Reply& reply) {
    return bytes_of(reply.header) + bytes_of(reply.init);
  }

  std::array<int, 2> ends_{-1, -1};
};

TEST_F(PassthroughTest, AcceptsTheKernelsOffer) {
  Passthrough passthrough(true);
  receive(passthrough, offering().bytes());
  auto expected = ordinary_reply();
  expected.init.flags |= FUSE_INIT_EXT;
  expected.init.flags2 = kOffer;
  expected.init.unused[0] = 1;
  EXPECT_EQ(sent(passthrough, ordinary_reply()), unchanged(expected));
}

TEST_F(PassthroughTest, ChangesOnlyTheFirstReply) {
  Passthrough passthrough(true);
  receive(passthrough, offering().bytes());
  sent(passthrough, ordinary_reply());
  receive(passthrough, offering().bytes());
  EXPECT_EQ(sent(passthrough, ordinary_reply()), unchanged(ordinary_reply()));
}

TEST_F(PassthroughTest, DeclinesWhenToldTo) {
  Passthrough passthrough(false);
  receive(passthrough, offering().bytes());
  EXPECT_EQ(sent(passthrough, ordinary_reply()), unchanged(ordinary_reply()));
}

TEST_F(PassthroughTest, LeavesTheReplyToAnErrorAlone) {
  Passthrough passthrough(true);
  receive(passthrough, offering().bytes());
  auto reply = ordinary_reply();
  reply.header.error = -EPROTO;
  EXPECT_EQ(sent(passthrough, reply), unchanged(reply));
}

TEST_F(PassthroughTest, LeavesAShorterReplyAlone) {
  Passthrough passthrough(true);
  receive(passthrough, offering().bytes());
  const auto reply = ordinary_reply();
  const auto size = sizeof reply.header + FUSE_COMPAT_22_INIT_OUT_SIZE;
  EXPECT_EQ(sent(passthrough, reply, FUSE_COMPAT_22_INIT_OUT_SIZE),
            unchanged(reply).substr(0, size));
}

TEST_F(PassthroughTest, RegistersNothingThatWasNotAgreedOn) {
  Passthrough passthrough(true);
  EXPECT_FALSE(passthrough.open(fetch::FileDescriptor(::open("/proc/self/exe", O_RDONLY))));
}

/// INIT requests of kernels that do not offer passthrough.
struct WithoutOffer {
  std::string name;
  std::string request;
};

class PassthroughWithoutOffer : public PassthroughTest,
                                public testing::WithParamInterface<WithoutOffer> {};

TEST_P(PassthroughWithoutOffer, LeavesTheReplyAlone) {
  Passthrough passthrough(true);
  receive(passthrough, GetParam().request);
  EXPECT_EQ(sent(passthrough, ordinary_reply()), unchanged(ordinary_reply()));
}

std::vector<WithoutOffer> without_offer() {
  auto no_flag = offering();
  no_flag.init.flags2 = ~kOffer;
  auto no_extension = offering();  // the second word means nothing then
  no_extension.init.flags = FUSE_ASYNC_READ;
  auto old = offering();
  old.init.minor = 35;
  auto other_request = offering();
  other_request.header.opcode = FUSE_GETATTR;
  const auto bytes = offering().bytes();
  return {{"NoFlag", no_flag.bytes()},
          {"NoExtension", no_extension.bytes()},
          {"OldProtocol", old.bytes()},
          {"OtherRequest", other_request.bytes()},
          {"ShortInit", bytes.substr(0, sizeof(fuse_in_header) + 16)},
          {"HeaderOnly", bytes.substr(0, sizeof(fuse_in_header))}};
}

INSTANTIATE_TEST_SUITE_P(Kernels, PassthroughWithoutOffer, testing::ValuesIn(without_offer()),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace puzzlefs::fs
