// Uploading one blob: POST, then one PUT with the whole body (others lose data on some registries).
// And doing without, where another repository of the registry has it.
#pragma once

#include <memory>
#include <string>

#include "fetch/http_client.h"
#include "fetch/outcome.h"
#include "fetch/redirect.h"
#include "fetch/registry_session.h"
#include "fetch/retrier.h"
#include "fetch/url.h"
#include "format/digest.h"

namespace puzzlefs::fetch {

/// One attempt at an upload, from its start: what a broken one left at the registry is unknown. The
/// answer is 201 when the registry has the blob, else the one that it refused with. `begun` may be
/// the URL of an upload that nothing was sent to yet. On the loop.
void upload(const std::shared_ptr<RegistrySession>& session, const format::Digest& digest,
            RequestBody body, const std::string& begun, const Patience& patience,
            Completion<Answer> done);

/// One attempt to have the repository of `session` take the blob from `from`, "cross-repository
/// mount". The answer is 201 when it has, 202 when an upload was begun instead, or a refusal. On
/// the loop.
void mount_blob(const std::shared_ptr<RegistrySession>& session, const format::Digest& digest,
                const std::string& from, const Patience& patience, Completion<Answer> done);

/// Where the registry wants the blob of an upload that it has begun with `answer`. Throws Error.
Url upload_location(const Answer& answer);

}  // namespace puzzlefs::fetch
