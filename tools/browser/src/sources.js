// Images, videos and the camera as sources of bitmaps.

// As Python reads files: EXIF orientation applied, colour profiles ignored
const AS_STORED = { imageOrientation: "from-image", colorSpaceConversion: "none" };

/**
 * @typedef {object} Source
 * @property {boolean} live whether more than one bitmap comes.
 * @property {() => Promise<ImageBitmap | null>} next the next bitmap; null at the end.
 * @property {() => void} close frees the source.
 */

/** @returns {Promise<Source>} one bitmap. */
export async function openImage(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, AS_STORED);
  } catch {
    throw new Error(`${blob.name ?? "image"}: this browser cannot read it`);
  }
  const bitmaps = [bitmap];
  return { live: false, next: async () => bitmaps.pop() ?? null, close: () => {} };
}

/** @returns {Promise<Source>} the frames of a video file, as they are shown. */
export async function openVideo(file) {
  const url = URL.createObjectURL(file);
  const video = videoElement();
  video.src = url;
  try {
    await video.play();
  } catch {
    URL.revokeObjectURL(url);
    throw new Error(`${file.name}: this browser cannot play it`);
  }
  return framesOf(video, () => {
    video.removeAttribute("src");
    URL.revokeObjectURL(url);
  });
}

/** @returns {Promise<Source>} the frames of the camera, that at the back where there are two. */
export async function openCamera() {
  if (!navigator.mediaDevices) throw new Error("the camera needs https, or localhost");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    throw new Error(`no camera: ${error.message}`);
  }
  const video = videoElement();
  video.srcObject = stream;
  await video.play();
  return framesOf(video, () => stream.getTracks().forEach((track) => track.stop()));
}

function videoElement() {
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  return video;
}

function framesOf(video, free) {
  let closed = false;
  const next = async () => {
    if (!(await newFrame(video, () => closed)) || closed) return null;
    return createImageBitmap(video);
  };
  const close = () => {
    closed = true;
    video.pause();
    free();
  };
  return { live: true, next, close };
}

// Whether the video shows another frame; false at its end
function newFrame(video, isClosed) {
  return new Promise((resolve) => {
    const timer = setInterval(() => (video.ended || isClosed()) && end(false), 100);
    const end = (value) => {
      clearInterval(timer);
      resolve(value);
    };
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(() => end(true));
    else requestAnimationFrame(() => end(!video.ended));
  });
}
