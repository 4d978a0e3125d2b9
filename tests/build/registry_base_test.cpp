// What a registry has, as the image that the next one shares packs with.
#include "build/registry_base.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "build/build_image.h"
#include "build/convert_image.h"
#include "packed.h"
#include "transfer_fixture.h"
#include "trees.h"

namespace puzzlefs::build {
namespace {

namespace fs = std::filesystem;

class RegistryBaseTest : public TransferTest {
 protected:
  void SetUp() override {
    TransferTest::SetUp();
    fs::create_directory(root_);
    for (int i = 0; i < 8; ++i) {
      const auto name = std::to_string(i);
      test::write_file(root_ / name, test::noise(100'000, name));
    }
  }

  std::unique_ptr<RegistryBase> open(fetch::Registry& registry) {
    RegistryTarget target(registry);
    const auto& present = target.present();
    if (!present) return nullptr;
    return RegistryBase::open(registry, *present, format::host_platform());
  }

  const fs::path root_ = directory_ / "root";
};

TEST_F(RegistryBaseTest, GivesWhatIsMovedOutOfPacksThatAreNotWorthKeeping) {
  test::RegistryProcess server;
  build_image(root_, layout_, "first", {.layout = ImageLayout::kPacked});
  push(server.host(), "first", "tag");
  for (const char* name : {"0", "1", "2", "4", "5", "7"}) fs::remove(root_ / name);
  build_image(root_, layout_, "chunked", {});

  const auto registry = connect(server.host(), "tag");
  const auto base = open(*registry);
  ASSERT_NE(base, nullptr);
  const auto image = test::open_image(runtime_, layout_, "chunked");
  const auto scratch = fetch::Layout::create(directory_ / "scratch");
  const auto result = convert_image(*image, scratch, "next", {.base = base->pack_base()});
  EXPECT_EQ(result.kept_packs, 0U) << "a quarter of it is live";
  EXPECT_EQ(result.replaced_packs, 1U);
  EXPECT_GT(result.moved_bytes, 0U);
  test::PackedImage next(scratch, "next");
  next.expect_sound();
  EXPECT_EQ(next.content("3"), test::noise(100'000, "3"));
  EXPECT_EQ(next.content("6"), test::noise(100'000, "6"));
}

TEST_F(RegistryBaseTest, LendsItsPacksToAnotherRepositoryThatDoesNotMountThem) {
  test::RegistryProcess server;
  build_image(root_, layout_, "chunked", {});
  convert_image(*test::open_image(runtime_, layout_, "chunked"), layout_, "first", {});
  push(server.host(), "first", "tag");
  test::write_file(root_ / "new", test::noise(100'000, "new"));
  build_image(root_, layout_, "chunked", {});

  const auto registry = connect(server.host(), "tag");
  const auto base = open(*registry);
  ASSERT_NE(base, nullptr);
  const auto image = test::open_image(runtime_, layout_, "chunked");
  const auto scratch = fetch::Layout::create(directory_ / "scratch");
  const auto result = convert_image(*image, scratch, "next", {.base = base->pack_base()});
  ASSERT_EQ(result.kept_packs, 1U);

  // There is nothing to mount from where this one looks.
  const auto other = connect(server.host(), "next", "team/other", "team/nowhere");
  LayoutSource layout(runtime_, {scratch.path(), "next"});
  RegistrySource base_source(runtime_, *registry);
  SharingSource source(layout, base_source, base->blobs());
  RegistryTarget target(*other);
  target.mount_only(base->blobs());
  const auto moved = transfer(source, target, {});
  EXPECT_EQ(moved.mounted_blobs, 0U);
  EXPECT_EQ(moved.moved_blobs, 4U);  // the base's pack, a new one, metadata, config

  const auto copy = fetch::Layout::create(directory_ / "copy");
  RegistrySource pushed(runtime_, *other);
  LayoutTarget pulled(runtime_, {copy.path(), "next"});
  transfer(pushed, pulled, {});
  test::PackedImage next(copy, "next");
  // Verified; the chunk at the old end of the stream is in the base's pack, and no longer used.
  EXPECT_EQ(next.content("3"), test::noise(100'000, "3"));
  EXPECT_EQ(next.content("new"), test::noise(100'000, "new"));
}

TEST_F(RegistryBaseTest, IsNoneOfWhatIsNotPacked) {
  test::RegistryProcess server;
  const auto registry = connect(server.host(), "tag");
  EXPECT_EQ(open(*registry), nullptr) << "nothing is there";
  build_image(root_, layout_, "chunked", {});
  push(server.host(), "chunked", "tag");
  EXPECT_EQ(open(*registry), nullptr);
}

}  // namespace
}  // namespace puzzlefs::build
