<?php
// Predis, in PHP itself, as programs use it.

require __DIR__ . '/checks.php';
require 'Predis/Autoloader.php';
Predis\Autoloader::register();

function connect(array $options = []): Predis\Client
{
    global $host, $port;
    return new Predis\Client(['host' => $host, 'port' => $port, 'read_write_timeout' => PATIENCE], $options);
}

$cache = connect();

function types(): void
{
    global $cache;
    equal((string) $cache->ping(), 'PONG');
    equal((string) $cache->setex('greeting', 100, 'hello'), 'OK');
    equal($cache->get('greeting'), 'hello');
    equal($cache->get('none'), null);
    equal((string) $cache->hmset('hash', ['a' => '1', 'b' => '2']), 'OK');
    equal($cache->hgetall('hash'), ['a' => '1', 'b' => '2']);
    equal($cache->rpush('list', ['1', '2', '3']), 3);
    equal($cache->lrange('list', 0, -1), ['1', '2', '3']);
    equal($cache->sadd('set', ['x']), 1);
    equal($cache->smembers('set'), ['x']);
    equal($cache->zadd('scores', ['one' => 1, 'two' => 2.5]), 2);
    equal($cache->zrange('scores', 0, -1, 'withscores'), ['one' => '1', 'two' => '2.5']);
}

function a_pipeline_answers_in_order(): void
{
    global $cache;
    $expected = [];
    $replies = $cache->pipeline(function ($pipe) use (&$expected) {
        foreach (range(0, 499) as $n) {
            $pipe->set("p$n", $n);
            $pipe->get("p$n");
            array_push($expected, 'OK', (string) $n);
        }
    });
    equal(array_map('strval', $replies), $expected);
}

function transactions(): void
{
    global $cache;
    $replies = $cache->transaction(function ($t) {
        $t->set('{t}a', 1);
        $t->incr('{t}a');
    });
    equal([(string) $replies[0], $replies[1]], ['OK', 2]);
    $tries = 0;
    $options = ['cas' => true, 'watch' => '{t}a', 'retry' => 3];
    $replies = $cache->transaction($options, function ($t) use (&$tries) {
        $value = $t->get('{t}a');
        if ($tries++ === 0) {
            connect()->set('{t}a', 9);
        }
        $t->multi();
        $t->set('{t}a', $value + 1);
    });
    equal([$tries, $cache->get('{t}a')], [2, '10']);
}

function scripts(): void
{
    global $cache;
    equal($cache->eval('return ARGV[1] * 2', 1, 'k', 21), 42);
    $sha = $cache->script('LOAD', 'return 7');
    equal($cache->evalsha($sha, 1, 'k2'), 7);
}

function keys_are_on_every_server(): void
{
    global $cache;
    $names = array_map(fn ($n) => "m$n", range(0, 299));
    $cache->mset(array_combine($names, range(0, 299)));
    sizes_are_spread();
    equal($cache->mget([...$names, 'none']), [...array_map('strval', range(0, 299)), null]);
    $found = iterator_to_array(new Predis\Collection\Iterator\Keyspace($cache, 'm*'), false);
    equal(count(array_unique($found)), 300);
    equal($cache->del($names), 300);
}

function messages_are_published(): void
{
    $got = [];
    $loop = connect()->pubSubLoop();
    $loop->subscribe('news', 'other');
    foreach ($loop as $message) {
        if ($message->kind === 'subscribe' && $message->payload === 2) {
            equal(connect()->publish('news', 'hello'), 1);
        } elseif ($message->kind === 'message') {
            $got[] = [$message->channel, $message->payload];
            $loop->unsubscribe();
        }
    }
    equal($got, [['news', 'hello']]);
}

function blocking_pops(): void
{
    global $cache, $host, $port;
    equal($cache->blpop(['empty'], 1), null);
    $program = sprintf('require "Predis/Autoloader.php"; Predis\Autoloader::register(); usleep(50000);
        (new Predis\Client(["host" => "%s", "port" => %d]))->rpush("wait", ["now"]);', $host, $port);
    $other = meanwhile($program);
    equal($cache->blpop(['wait'], 10), ['wait', 'now']);
    proc_close($other);
}

function errors_leave_the_connection_usable(): void
{
    global $cache;
    $cache->set('text', 'x');
    raises('WRONGTYPE', fn () => $cache->lpush('text', ['y']));
    raises('unknown command', fn () => $cache->executeRaw(['NONSENSE'], $failed) && $failed ? throw new Exception('unknown command') : null);
    equal($cache->get('text'), 'x');
}

function a_server_is_lost_and_comes_back(): void
{
    global $cache, $servers;
    $names = array_map(fn ($n) => "back$n", range(0, 59));
    ask('kill');
    $lost = 0;
    foreach ($names as $name) {
        try {
            $cache->get($name);
        } catch (Predis\PredisException) {
            $lost++;
        }
    }
    if ($servers === 1 ? $lost !== 60 : $lost === 0 || $lost === 60) {
        throw new Exception("$lost lost");
    }
    ask('start');
    foreach ($names as $name) {
        eventually($name, fn () => $cache->set($name, 'after'));
    }
    equal($cache->mget($names), array_fill(0, 60, 'after'));
}

run('predis', Predis\Client::VERSION, [
    'types', 'a_pipeline_answers_in_order', 'transactions', 'scripts', 'keys_are_on_every_server',
    'messages_are_published', 'blocking_pops', 'errors_leave_the_connection_usable', 'a_server_is_lost_and_comes_back',
]);
