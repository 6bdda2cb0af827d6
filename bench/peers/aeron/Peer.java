// SPDX-License-Identifier: MIT
//
// The peer Aeron IPC, as bench/peers/external.hpp asks for it: exclusive publications, tryClaim where a message fits into a
// fragment, else offer and an assembler. With role=driver it is the media driver, which all others need.

import io.aeron.Aeron;
import io.aeron.ExclusivePublication;
import io.aeron.FragmentAssembler;
import io.aeron.Publication;
import io.aeron.Subscription;
import io.aeron.driver.MediaDriver;
import io.aeron.driver.ThreadingMode;
import io.aeron.logbuffer.BufferClaim;
import io.aeron.logbuffer.FragmentHandler;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.function.BooleanSupplier;
import org.agrona.DirectBuffer;
import org.agrona.MutableDirectBuffer;
import org.agrona.concurrent.UnsafeBuffer;

public final class Peer {
    private static final int TOUCHED_BYTES = 64;
    private static final int LARGEST_BYTES = 16 << 20;
    private static final int POLL_LIMIT = 64;
    private static final int THERE = 1001;
    private static final int BACK = 1002;
    private static final Map<String, String> ARGUMENTS = new HashMap<>();

    // N operations: how many were completed, and nanoseconds.
    private interface Block {
        long[] run(long count);
    }

    private static final class Failure extends RuntimeException {
        private static final long serialVersionUID = 1;

        Failure(final String why) {
            super(why);
        }
    }

    public static void main(final String[] arguments) {
        for (final String argument : arguments) {
            final int at = argument.indexOf('=');
            ARGUMENTS.put(argument.substring(0, at), argument.substring(at + 1));
        }
        try {
            if (role("driver")) {
                drive();
            } else {
                measure();
            }
        } catch (final Exception failure) {
            System.out.println("cannot " + String.valueOf(failure.getMessage()).replace('\n', ' '));
            System.out.flush();
            Runtime.getRuntime().halt(1);
        }
    }

    private static boolean role(final String name) {
        return name.equals(ARGUMENTS.get("role"));
    }

    private static String directory() {
        return "/dev/shm/" + ARGUMENTS.get("prefix") + "aeron";
    }

    private static void drive() throws IOException {
        final MediaDriver.Context context = new MediaDriver.Context()
            .aeronDirectoryName(directory())
            .threadingMode(ThreadingMode.SHARED)
            .dirDeleteOnStart(true)
            .dirDeleteOnShutdown(true);
        try (MediaDriver driver = MediaDriver.launch(context)) {
            serve(count -> new long[] {count, 0});
        }
    }

    private static void measure() throws IOException {
        final int bytes = Integer.parseInt(ARGUMENTS.get("bytes"));
        if ("sleep".equals(ARGUMENTS.get("wait"))) {
            throw new Failure("Aeron has no call that waits: its clients poll");
        }
        if (bytes > LARGEST_BYTES) {
            throw new Failure("Aeron's largest message is 16 MiB");
        }
        switch (ARGUMENTS.get("what")) {
            case "roundtrip" -> roundTrip(bytes);
            case "flow" -> flow();
            case "fanout" -> fanOut();
            case "open" -> open();
            case "footprint" -> footprint();
            default -> throw new Failure("an unknown what=");
        }
    }

    private static void serve(final Block block) throws IOException {
        System.out.println("ready");
        System.out.flush();
        final BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = in.readLine()) != null; ) {
            final long[] result = block.run(Long.parseLong(line.substring("block ".length())));
            System.out.println(result[0] + " " + result[1]);
            System.out.flush();
        }
    }

    private static Aeron connect() {
        return Aeron.connect(new Aeron.Context().aeronDirectoryName(directory()));
    }

    // A fragment that holds the message, as far as the largest MTU allows.
    private static String channel(final int bytes) {
        return bytes <= 1024 ? "aeron:ipc" : "aeron:ipc?mtu=" + (bytes <= 8192 ? 8192 : 65504);
    }

    // Streams are numbers; one driver serves all rows, so a topic's name chooses them.
    private static int stream(final int number) {
        return ARGUMENTS.get("topic").hashCode() * 31 + number;
    }

    private static void waitUntil(final BooleanSupplier holds) {
        final long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        while (!holds.getAsBoolean()) {
            if (System.nanoTime() > deadline) {
                throw new Failure("the other side did not come");
            }
            LockSupport.parkNanos(10_000);
        }
    }

    private static void check(final boolean holds, final String what) {
        if (!holds) {
            throw new Failure(what);
        }
    }

    // 32 bytes hold their position, larger ones begin with 64 bytes of it where they are touched.
    private static int headBytes(final int bytes, final boolean touched) {
        return bytes == 32 ? 32 : touched ? TOUCHED_BYTES : 0;
    }

    private static final class Out {
        private final ExclusivePublication publication;
        private final BufferClaim claim = new BufferClaim();
        private final UnsafeBuffer message;
        private final int bytes;
        private final int head;
        private final boolean fits;

        Out(final Aeron aeron, final int bytes, final boolean touched, final int stream) {
            this.bytes = bytes;
            head = headBytes(bytes, touched);
            publication = aeron.addExclusivePublication(channel(bytes), stream);
            fits = bytes <= publication.maxPayloadLength();
            check(bytes <= publication.maxMessageLength(), "the message is larger than a term allows");
            message = fits ? null : new UnsafeBuffer(java.nio.ByteBuffer.allocateDirect(bytes));
        }

        void send(final long position) {
            if (fits) {
                while (publication.tryClaim(bytes, claim) < 0) {
                    Thread.onSpinWait();
                }
                write(claim.buffer(), claim.offset(), position);
                claim.commit();
                return;
            }
            write(message, 0, position);
            while (publication.offer(message, 0, bytes) < 0) {
                Thread.onSpinWait();
            }
        }

        private void write(final MutableDirectBuffer buffer, final int offset, final long position) {
            for (int i = 0; i < head; i += 8) {
                buffer.putLong(offset + i, position);
            }
        }
    }

    private static final class In {
        final Subscription subscription;
        private final FragmentHandler handler;
        private final int bytes;
        private final int head;
        private long position;

        In(final Aeron aeron, final int bytes, final boolean touched, final int stream) {
            this.bytes = bytes;
            head = headBytes(bytes, touched);
            subscription = aeron.addSubscription(channel(bytes), stream);
            final FragmentHandler look = (buffer, offset, length, header) -> look(buffer, offset, length);
            handler = bytes <= 8192 ? look : new FragmentAssembler(look, bytes);
        }

        // Polls until `end` messages have come since the beginning.
        void receiveUntil(final long end, final int limit) {
            while (position < end) {
                if (subscription.poll(handler, limit) == 0) {
                    Thread.onSpinWait();
                }
            }
        }

        private void look(final DirectBuffer buffer, final int offset, final int length) {
            check(length == bytes, "a message has the wrong size");
            long wrong = 0;
            for (int i = 0; i < head; i += 8) {
                wrong |= buffer.getLong(offset + i) ^ position;
            }
            check(wrong == 0, "a message has the wrong content");
            ++position;
        }
    }

    private static void roundTrip(final int bytes) throws IOException {
        final boolean leads = role("lead");
        final boolean touched = "1".equals(ARGUMENTS.get("touched"));
        try (Aeron aeron = connect()) {
            final Out out = new Out(aeron, bytes, touched, stream(leads ? THERE : BACK));
            final In in = new In(aeron, bytes, touched, stream(leads ? BACK : THERE));
            waitUntil(() -> out.publication.isConnected() && in.subscription.isConnected());
            final long[] position = {0};
            serve(count -> {
                final long start = System.nanoTime();
                final long end = position[0] + count;
                for (long at = position[0]; at < end; ++at) {
                    if (leads) {
                        out.send(at);
                    }
                    in.receiveUntil(at + 1, 1);
                    if (!leads) {
                        out.send(at);
                    }
                }
                position[0] = end;
                return new long[] {count, System.nanoTime() - start};
            });
        }
    }

    private static void flow() throws IOException {
        try (Aeron aeron = connect()) {
            if (role("lead")) {
                publish(aeron);
                return;
            }
            final long[] position = {0};
            final In in = new In(aeron, 32, true, stream(THERE));
            serve(count -> {
                final long first = position[0];
                position[0] = first + count;
                // From the first poll that finds something on, where there is more.
                long start = System.nanoTime();
                in.receiveUntil(first + 1, 1);
                if (count > 1) {
                    start = System.nanoTime();
                    in.receiveUntil(first + count, POLL_LIMIT);
                }
                return new long[] {Math.max(1, count - 1), System.nanoTime() - start};
            });
        }
    }

    // The lead of all but round trips.
    private static void publish(final Aeron aeron) throws IOException {
        final Out out = new Out(aeron, 32, true, stream(THERE));
        waitUntil(out.publication::isConnected);
        final long[] position = {0};
        serve(count -> {
            final long start = System.nanoTime();
            for (final long end = position[0] + count; position[0] < end; ++position[0]) {
                out.send(position[0]);
            }
            return new long[] {count, System.nanoTime() - start};
        });
    }

    // All subscriptions are in one process and take what came a moment later: ones that never poll would stop the publisher.
    private static void fanOut() throws IOException {
        try (Aeron aeron = connect()) {
            if (role("lead")) {
                publish(aeron);
                return;
            }
            final long[] position = {0};
            final List<In> all = new ArrayList<>();
            for (int i = 0; i < Integer.parseInt(ARGUMENTS.get("receivers")); ++i) {
                all.add(new In(aeron, 32, true, stream(THERE)));
            }
            waitUntil(() -> all.stream().allMatch(in -> in.subscription.isConnected()));
            serve(count -> {
                LockSupport.parkNanos(TimeUnit.MICROSECONDS.toNanos(200));
                position[0] += count;
                for (final In in : all) {
                    in.receiveUntil(position[0], POLL_LIMIT);
                }
                return new long[] {count, 0};
            });
        }
    }

    private static void openOne(final Aeron aeron, final int stream) {
        final Out out = new Out(aeron, 32, true, stream);
        final In in = new In(aeron, 32, true, stream);
        waitUntil(out.publication::isConnected);
        out.send(0);
        in.receiveUntil(1, 1);
    }

    private static void open() throws IOException {
        final int[] opened = {0};
        serve(count -> {
            long took = 0;
            for (long i = 0; i < count; ++i) {
                final long start = System.nanoTime();
                try (Aeron aeron = connect()) {
                    openOne(aeron, stream(THERE + ++opened[0]));
                    took += System.nanoTime() - start;
                }
            }
            return new long[] {count, took};
        });
    }

    private static void footprint() throws IOException {
        try (Aeron aeron = connect()) {
            openOne(aeron, stream(THERE));
            final int[] opened = {0};
            serve(count -> {
                for (long i = 0; i < count; ++i) {
                    openOne(aeron, stream(THERE + ++opened[0]));
                }
                return new long[] {count, 0};
            });
        }
    }
}
