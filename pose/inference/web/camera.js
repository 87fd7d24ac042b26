// A camera's images, one by one to the server; each is shown with its own skeletons, so that these never lag behind.
const CAMERA_SIDE = 640; // pixels of the longer side of what is sent

class Camera {
  constructor(show, fail) {
    this.show = show; // called with (canvas, {width, height, persons}, images a second)
    this.fail = fail; // called with a sentence
    this.media = null;
    this.run = 0;
  }

  get on() {
    return this.media !== null;
  }

  async start() {
    const mine = ++this.run;
    if (!navigator.mediaDevices) {
      this.fail("This browser gives the camera to pages of this machine or of https alone.");
      return;
    }
    let media;
    try {
      media = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, facingMode: "user" } });
    } catch (error) {
      this.fail(`No camera: ${error.message || error.name}.`);
      return;
    }
    if (mine !== this.run) { // stopped while the person was asked
      media.getTracks().forEach((track) => track.stop());
      return;
    }
    this.media = media;
    const video = document.createElement("video");
    video.muted = video.playsInline = true;
    video.srcObject = media;
    await video.play();
    const name = crypto.randomUUID ? crypto.randomUUID() : String(Math.random());
    let rate = 0;
    while (mine === this.run) {
      const started = performance.now();
      const scale = Math.min(1, CAMERA_SIDE / Math.max(video.videoWidth, video.videoHeight));
      const canvas = document.createElement("canvas");
      canvas.width = Math.round(video.videoWidth * scale);
      canvas.height = Math.round(video.videoHeight * scale);
      canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
      const image = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.85));
      let answer;
      try {
        answer = await (await fetch(`camera/${name}`, { method: "POST", body: image })).json();
      } catch (error) {
        answer = { error: `no answer from the server (${error.message}); is it still running?` };
      }
      if (mine !== this.run) break;
      if (answer.error) {
        this.stop();
        this.fail(answer.error);
        break;
      }
      const now = 1000 / (performance.now() - started);
      rate = rate ? 0.9 * rate + 0.1 * now : now;
      this.show(canvas, answer, rate);
      await new Promise(requestAnimationFrame);
    }
  }

  stop() {
    this.run++;
    if (this.media) this.media.getTracks().forEach((track) => track.stop());
    this.media = null;
  }
}
