// tus-js-client as it comes: sends a file, is cut in the middle, and goes on as a new upload would.
//   node tus.mjs URL KEY FILE
import { createReadStream, statSync } from "node:fs";
import { basename } from "node:path";
import { Upload } from "tus-js-client";

const [, , url, key, file] = process.argv;
const size = statSync(file).size;
const options = {
  endpoint: `${url}/uploads`,
  headers: { Authorization: `Bearer ${key}` },
  metadata: { filename: basename(file), filetype: "video/mp4" },
  uploadSize: size,
  chunkSize: 1_500_000,
};

const address = await new Promise((resolve, reject) => {
  const first = new Upload(createReadStream(file), {
    ...options,
    onError: reject,
    onChunkComplete: async () => {
      const { url } = first;
      await first.abort();
      resolve(url);
    },
  });
  first.start();
});

let resumedAt;
const second = await new Promise((resolve, reject) => {
  const upload = new Upload(createReadStream(file), {
    ...options,
    uploadUrl: address,
    onError: reject,
    onProgress: (sent) => (resumedAt ??= sent),
    onSuccess: () => resolve(upload),
  });
  upload.start();
});
console.log(JSON.stringify({ url: second.url, resumed_at: resumedAt }));
