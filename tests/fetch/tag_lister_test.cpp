// Where a list of tags goes on.
#include "fetch/tag_lister.h"

#include <gtest/gtest.h>

namespace puzzlefs::fetch {
namespace {

TEST(NextPage, IsTheTargetOfTheLink) {
  EXPECT_EQ(next_page({"</v2/app/tags/list?n=2&last=b>; rel=\"next\""}),
            "/v2/app/tags/list?n=2&last=b");
  EXPECT_EQ(next_page({"<https://r.example/v2/app/tags/list?last=b>;rel=next"}),
            "https://r.example/v2/app/tags/list?last=b");
}

TEST(NextPage, MayStandAmongOthers) {
  EXPECT_EQ(
      next_page({"</first>; rel=\"first\", </next>; title=x; rel=\"next\", </last>; rel=last"}),
      "/next");
  EXPECT_EQ(next_page({"</last>; rel=last", "</next>;rel=next"}), "/next");
}

TEST(NextPage, IsNoOtherLink) {
  EXPECT_EQ(next_page({}), "");
  EXPECT_EQ(next_page({"</a>; rel=nextish"}), "");
  EXPECT_EQ(next_page({"</a>; rel=last; title=\"rel=next\""}), "");
  EXPECT_EQ(next_page({""}), "");
  EXPECT_EQ(next_page({"<https://r.example/help>; rel=\"help\""}), "");
  EXPECT_EQ(next_page({"<unfinished; rel=\"next\""}), "");
  EXPECT_EQ(next_page({"nothing> <"}), "");
}

}  // namespace
}  // namespace puzzlefs::fetch
