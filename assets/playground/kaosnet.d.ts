/** Types of kaosnet.js; what they mean is documented there and, for the protocol, in assets/proto/README.md. */

export declare const PROTOCOL_MIN: number;
export declare const PROTOCOL_MAX: number;
/** The index that means the server (as a sender) and the room (as a recipient). */
export declare const SERVER: 65535;

/** What can be sent; a string goes as UTF-8. */
export type Data = string | Uint8Array | ArrayBuffer | ArrayBufferView;
/** Anything that JSON can say. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** A refusal or a failure; `name` is one word that a program can match. */
export declare class KaosError extends Error {
  constructor(name: string, message: string, code?: number, retryMs?: number);
  name: string;
  /** The fault number; 0 for the client's own errors. */
  code: number;
  /** When the same request may pass; 0: do not repeat it. */
  retryMs: number;
}

export interface ConnectOptions {
  /** `http://host:7350`, `host:7350`, `ws://host:7350/kaos`; default: where the page came from. */
  url?: string;
  /** An anonymous name, where the server allows it; default: a random one. */
  name?: string;
  /** A signed session token; goes before `name`. */
  token?: string;
  /** What the client calls itself in the server's logs; at most 64 bytes. */
  client?: string;
  /** Free for the game: `ctx.vars` in scripts. At most 16 entries, 1 KiB in all. */
  vars?: Record<string, string>;
  /** false: a lost connection ends the session. Default: true. */
  resume?: boolean;
  /** A class with the interface of the browser's WebSocket, where there is none. */
  WebSocket?: new (url: string) => WebSocketLike;
  /** For tests: another clock. */
  clock?: Clock;
}

/** What the client uses of a WebSocket: the browser's, Node's and that of the package `ws` have it. */
export interface WebSocketLike {
  binaryType: string;
  readonly bufferedAmount: number;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: any): void;
  close(): void;
}

export interface Clock {
  /** Milliseconds; runs evenly. */
  now(): number;
  setTimeout(run: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  /** 0 to 1. */
  random(): number;
}

/** One session in one room. */
export interface Presence {
  /** 16 hexadecimal digits. */
  sessionId: string;
  userId: string;
  username: string;
  /** The sender index in room data; stable while the seat is held. */
  index: number;
  /** false while a lost client may still come back. */
  connected: boolean;
  /** In Left only: left, disconnected, kicked, ended ... */
  reason: string;
}

export interface StateEvent {
  type: "State";
  room: Room;
  members: Presence[];
  tick: number;
  /** Reliable room data lost before this state; 0 but after a very long gap. */
  lost: number;
}
export interface JoinedEvent { type: "Joined"; presences: Presence[] }
export interface LeftEvent { type: "Left"; presences: Presence[] }
export interface ChangedEvent { type: "Changed"; presences: Presence[] }
export interface DataEvent {
  type: "Data";
  op: number;
  data: Uint8Array;
  /** null: the server, or a member that has left meanwhile (`index` tells). */
  sender: Presence | null;
  index: number;
  reliable: boolean;
  text(): string;
  json(): any;
}
export interface LabelEvent { type: "Label"; label: string | { [key: string]: Json } }
export interface ClosedEvent {
  type: "Closed";
  /** One word. */
  reason: string;
  /** A fault number; 0: all is well. */
  code: number;
  /** A sentence for people. */
  message: string;
}
export type RoomEvent = StateEvent | JoinedEvent | LeftEvent | ChangedEvent | DataEvent | LabelEvent | ClosedEvent;

export interface WaitingEvent {
  type: "Waiting";
  attempt: number;
  /** Until the next attempt; null while paused. */
  nextMs: number | null;
  /** How long the server keeps the seat, as far as is known. */
  leftMs: number;
}
export interface ResumedEvent { type: "Resumed"; lost: number; awayMs: number }
export interface PingEvent { type: "Ping"; rttMs: number }
export interface RefusedEvent { type: "Refused"; error: KaosError }
export interface MessageEvent {
  type: "Message";
  way: "in" | "out";
  op: number;
  name: string;
  /** Bytes with the header. */
  size: number;
  /** Sent again after a resume. */
  again: boolean;
}
export type SessionEvent = WaitingEvent | ResumedEvent | PingEvent | RefusedEvent | MessageEvent | ClosedEvent;

type Handlers<Events extends { type: string }> = {
  <Type extends Events["type"]>(type: Type, handler: (event: Extract<Events, { type: Type }>) => void): () => void;
  (type: "*", handler: (event: Events) => void): () => void;
};

/** A room that this session has joined. */
export declare class Room implements AsyncIterable<RoomEvent> {
  private constructor();
  readonly session: Session;
  readonly id: string;
  readonly handle: number;
  /** This session's own sender index. */
  readonly index: number;
  /** Whether joinOrCreate made it. */
  readonly created: boolean;
  readonly module: string;
  readonly label: string | { [key: string]: Json };
  /** Per second; 0: a relayed room. */
  readonly tickRate: number;
  /** The last tick that had run when the last State came. */
  readonly tick: number;
  readonly serverTimeMs: number;
  readonly maxPlayers: number;
  /** By index, this session among them. */
  readonly members: Map<number, Presence>;
  /** Why it is over, or null. */
  readonly closed: ClosedEvent | null;
  /** Calls `handler` for each event of a type; the returned function stops that. */
  on: Handlers<RoomEvent>;
  /**
   * Sends to the match; in a relayed room to everyone else, or to the one member `to`. While the connection is away,
   * reliable data waits and unreliable data is dropped. Throws `closed`, `too_long` (over 65,530 bytes, or 1,112 when
   * not `reliable`), `keep_full`.
   */
  send(op: number, data?: Data, options?: { reliable?: boolean; to?: number }): void;
  leave(): Promise<void>;
  /** Begins with a State and ends after Closed. */
  [Symbol.asyncIterator](): AsyncIterator<RoomEvent>;
}

export interface JoinOptions {
  /** JSON object for match_join_attempt. */
  metadata?: unknown;
}
export interface CreateOptions {
  /** JSON object for match_init. */
  params?: unknown;
  /** In `create`: of a relayed room. In `joinOrCreate`: only rooms with this label. */
  label?: unknown;
  /** Default: the server's. */
  maxPlayers?: number;
}

/** A session with a server; outlives lost connections. */
export declare class Session {
  private constructor();
  readonly state: "connecting" | "connected" | "waiting" | "closed";
  /** 16 hexadecimal digits. */
  readonly id: string;
  readonly userId: string;
  /** The name that the server gave. */
  readonly username: string;
  readonly node: string;
  readonly heartbeatMs: number;
  /** Silence that counts as a lost connection: 10 s, or two heartbeats and a second if that is longer. */
  readonly silenceMs: number;
  /** How long the server keeps the seats of a lost connection. */
  readonly seatMs: number;
  /** The last measured round trip, or null. */
  readonly rttMs: number | null;
  /** The server's Unix time minus this machine's. */
  readonly serverOffsetMs: number | null;
  /** Counted messages since the session began. */
  readonly sent: { control: number; data: number };
  readonly received: { control: number; data: number };
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly messagesIn: number;
  readonly messagesOut: number;
  /** What the server has not acknowledged yet. */
  readonly keptMessages: number;
  readonly keptBytes: number;
  readonly resumes: number;
  /** Reliable room messages that the server could not keep. */
  readonly lost: number;
  readonly closed: ClosedEvent | null;
  /** By handle. */
  readonly rooms: Map<number, Room>;
  on: Handlers<SessionEvent>;
  joinOrCreate(module: string, options?: JoinOptions & CreateOptions): Promise<Room>;
  join(roomId: string, options?: JoinOptions): Promise<Room>;
  /** Resolves to the room's id; joins nobody. */
  create(module?: string, options?: CreateOptions): Promise<string>;
  rpc(id: string, payload?: Data): Promise<Uint8Array>;
  /** Any operation of the server or of a plugin; `body` is anything that JSON can say. */
  call(op: string, body?: unknown): Promise<any>;
  /**
   * Calls `handler` with the body of each event of this name that a feature of the server pushes. Resolves to a function
   * that stops that; rejects with `no_such_event`, and the nearest name, when the server has no such event.
   */
  listen<T = any>(event: string, handler: (body: T) => void): Promise<() => void>;
  close(): void;
  /** A test aid: cuts the connection without a goodbye and comes back after `forMs`. */
  drop(forMs?: number): void;
  /** Cuts the connection without a goodbye and stays away until `resume`. */
  pause(): void;
  /** Comes back now. Does nothing while connected. */
  resume(): void;
}

export declare function connect(url?: string, options?: ConnectOptions): Promise<Session>;
export declare function connect(options: ConnectOptions): Promise<Session>;

/** Text as UTF-8 bytes; bytes as they are. */
export declare function bytes(value: Data | null | undefined): Uint8Array;
/** UTF-8 bytes as text. */
export declare function text(value: Uint8Array): string;

/** The codec by itself; fields are named as in kaosnet.proto, session ids are 16 hexadecimal digits. */
export declare const wire: {
  encode(name: string, fields: Record<string, any>): Uint8Array;
  split(frame: Uint8Array): { op: number; size: number; payload: Uint8Array }[];
  decode(side: "client" | "server", op: number, payload: Uint8Array): { name: string | null; fields: Record<string, any> };
  counted(op: number): "control" | "data" | null;
};
