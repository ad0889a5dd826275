// What the app does over grpc-web, one case a run: `node client.mjs <url> <token or ""> <case>`.
// Prints one line of JSON for each thing that happens, when it happens.
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-web';
import { ChatService } from './gen/assistant/chat/v1/chat_pb.js';
import { SessionService } from './gen/assistant/session/v1/session_pb.js';
import { MediaService } from './gen/assistant/media/v1/media_pb.js';
import { GenerationService } from './gen/assistant/generation/v1/generation_pb.js';
import { ErrorInfoSchema } from './gen/google/rpc/error_details_pb.js';

const [url, token, name] = process.argv.slice(2);

const say = (event) => console.log(JSON.stringify(event));

const signedIn = (next) => (request) => {
  if (token) request.header.set('authorization', `Bearer ${token}`);
  return next(request);
};
const transport = createGrpcWebTransport({ baseUrl: url, interceptors: [signedIn] });
const sessions = createClient(SessionService, transport);
const chat = createClient(ChatService, transport);

const message = {
  sessionId: 's1',
  clientMessageId: crypto.randomUUID(),
  parts: [{ content: { case: 'text', value: 'hello' } }],
};

const cases = {
  async unary() {
    const { session } = await sessions.getSession({ sessionId: 's1' });
    say({ title: session.title });
  },
  async missing() {
    await sessions.getSession({ sessionId: 'missing' });
  },
  async internal() {
    await createClient(MediaService, transport).claimMedia({});
  },
  async other_room() {
    const { model } = await createClient(GenerationService, transport).getModel({ model: 'tiny' });
    say({ model: model.name });
  },
  async stream() {
    for await (const frame of chat.sendMessage({ message, follow: true })) {
      const { event } = frame.frame.value;
      say({ sequence: Number(frame.frame.value.sequence), text: event.value.text });
      // The server sends the last event only after this call: it can only be made when the first has arrived.
      if (event.value.text === 'first') await chat.cancelTurn({ sessionId: 's1', turnId: 't1', requestId: crypto.randomUUID() });
    }
    say({ ended: true });
  },
};

try {
  await cases[name]();
} catch (thrown) {
  const error = ConnectError.from(thrown);
  const [info] = error.findDetails(ErrorInfoSchema);
  say({ code: Code[error.code], message: error.rawMessage, reason: info?.reason, domain: info?.domain });
}
