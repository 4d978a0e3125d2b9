// The control socket, asked by clients good and bad.
#include "fs/control_socket.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "../support/temp_dir.h"
#include "fetch/file_descriptor.h"
#include "format/error.h"
#include "fs/control_paths.h"

namespace puzzlefs::fs {
namespace {

using namespace std::chrono_literals;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;

fetch::FileDescriptor connect(const std::filesystem::path& path) {
  fetch::FileDescriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  const auto* any = reinterpret_cast<const sockaddr*>(&address);
  if (::connect(socket.get(), any, sizeof address) != 0) return {};
  return socket;
}

void send(const fetch::FileDescriptor& socket, const std::string& text) {
  // The other side may have heard enough.
  ::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL);
}

/// All that comes until the other side ends.
std::string receive(const fetch::FileDescriptor& socket) {
  std::string text;
  std::array<char, 4096> buffer;
  while (true) {
    const auto count = ::recv(socket.get(), buffer.data(), buffer.size(), 0);
    if (count <= 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

class ControlSocketTest : public testing::Test {
 protected:
  std::string ask(const std::string& request) {
    const auto client = connect(socket_.path());
    send(client, request);
    return receive(client);
  }

  test::TempDir directory_;
  fetch::Runtime runtime_{1};
  ControlSocket socket_{runtime_,
                        directory_ / "s",
                        {{"/hello",
                          [] {
                            return ControlAnswer{"text/hello", std::string(100'000, 'h')};
                          }},
                         {"/bad", []() -> ControlAnswer { throw Error(EIO, "It is broken."); }}},
                        1min};
};

TEST_F(ControlSocketTest, AnswersAGet) {
  const auto answer = ask("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(answer, HasSubstr("Content-Type: text/hello\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Length: 100000\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\n" + std::string(100'000, 'h')));
}

TEST_F(ControlSocketTest, AnswersOlderClientsAndIgnoresQueries) {
  EXPECT_THAT(ask("GET /hello?a=b HTTP/1.0\r\n\r\n"), HasSubstr(" 200 "));
}

TEST_F(ControlSocketTest, OtherPathsAreNotFound) {
  const auto answer = ask("GET /other HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(answer, HasSubstr(" 404 "));
  EXPECT_THAT(answer, HasSubstr("/hello"));
}

TEST_F(ControlSocketTest, OtherMethodsAreRefused) {
  for (const std::string method : {"POST", "HEAD", "DELETE", "BREW"}) {
    const auto answer = ask(method + " /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    EXPECT_THAT(answer, HasSubstr(" 405 "));
    EXPECT_THAT(answer, HasSubstr("Allow: GET\r\n"));
  }
}

TEST_F(ControlSocketTest, WhatAHandlerThrowsIsTheAnswer) {
  const auto answer = ask("GET /bad HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(answer, HasSubstr(" 500 "));
  EXPECT_THAT(answer, EndsWith("It is broken.\n"));
}

TEST_F(ControlSocketTest, WhatIsNoRequestIsRefused) {
  EXPECT_THAT(ask("Hello?\r\n\r\n"), HasSubstr(" 400 "));
}

TEST_F(ControlSocketTest, ARequestThatIsTooLargeIsRefused) {
  EXPECT_THAT(ask("GET /hello HTTP/1.1\r\nX: " + std::string(20'000, 'x') + "\r\n\r\n"),
              HasSubstr(" 431 "));
}

TEST_F(ControlSocketTest, MoreClientsThanItServesWaitForTheirTurn) {
  std::vector<fetch::FileDescriptor> silent;
  for (std::size_t i = 0; i < ControlSocket::kMaxConnections; ++i) {
    silent.push_back(connect(socket_.path()));
  }
  const auto client = connect(socket_.path());
  send(client, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
  std::array<char, 1> byte;
  timeval moment{.tv_sec = 0, .tv_usec = 50'000};
  ::setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &moment, sizeof moment);
  EXPECT_EQ(::recv(client.get(), byte.data(), byte.size(), MSG_PEEK), -1);
  moment = {.tv_sec = 60, .tv_usec = 0};
  ::setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &moment, sizeof moment);
  silent.pop_back();
  EXPECT_THAT(receive(client), HasSubstr(" 200 "));
}

TEST_F(ControlSocketTest, IsForItsUserAlone) {
  struct stat status {};
  ASSERT_EQ(::stat(socket_.path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
}

TEST(ControlSocketEndTest, AClientThatSaysNothingIsSentAway) {
  const test::TempDir directory;
  fetch::Runtime runtime(1);
  const ControlSocket socket(runtime, directory / "s", {}, 1ms);
  const auto client = connect(socket.path());
  EXPECT_THAT(receive(client), IsEmpty());
}

TEST(ControlSocketEndTest, TheSocketGoesAndClientsAreSentAway) {
  const test::TempDir directory;
  fetch::Runtime runtime(1);
  fetch::FileDescriptor client;
  {
    const ControlSocket socket(runtime, directory / "s", {});
    client = connect(socket.path());
    ASSERT_TRUE(client);
  }
  EXPECT_THAT(receive(client), IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(directory / "s"));
}

TEST(ControlSocketEndTest, APathThatCannotBeHadIsAnError) {
  const test::TempDir directory;
  fetch::Runtime runtime(1);
  EXPECT_THROW(ControlSocket(runtime, directory / "none" / "s", {}), Error);
  EXPECT_THROW(ControlSocket(runtime, directory / std::string(200, 'x'), {}), Error);
}

TEST(ControlPathsTest, AreMadeInAPrivateDirectoryAndFoundAgain) {
  const test::TempDir directory;
  const auto place = directory / "run";
  const auto path = make_control_path({place}, "0:57");
  struct stat status {};
  ASSERT_EQ(::stat(place.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0700U);
  EXPECT_THAT(find_control_paths({place}, "0:57"), IsEmpty());
  std::ofstream(path).flush();
  EXPECT_THAT(find_control_paths({directory / "none", place}, "0:57"), testing::ElementsAre(path));
  EXPECT_THAT(find_control_paths({place}, "0:5"), IsEmpty());
}

TEST(ControlPathsTest, WhatEarlierMountsOfThatNumberLeftIsRemoved) {
  const test::TempDir directory;
  const auto place = directory / "run";
  make_control_path({place}, "0:57");
  std::ofstream(place / "0.57-1.sock").flush();
  std::ofstream(place / "0.58-1.sock").flush();
  make_control_path({place}, "0:57");
  EXPECT_FALSE(std::filesystem::exists(place / "0.57-1.sock"));
  EXPECT_TRUE(std::filesystem::exists(place / "0.58-1.sock"));
}

TEST(ControlPathsTest, ADirectoryThatIsOpenToOthersIsPassedOver) {
  const test::TempDir directory;
  const auto open = directory / "open";
  std::filesystem::create_directory(open);
  std::filesystem::permissions(open, std::filesystem::perms(0750));
  EXPECT_EQ(make_control_path({open, directory / "other"}, "0:57").parent_path(),
            directory / "other");
  EXPECT_THROW(make_control_path({open}, "0:57"), Error);
  EXPECT_THROW(make_control_path({}, "0:57"), Error);
}

}  // namespace
}  // namespace puzzlefs::fs
