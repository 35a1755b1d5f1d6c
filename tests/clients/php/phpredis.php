<?php
// phpredis, the extension, as programs use it.

require __DIR__ . '/checks.php';

function connect(): Redis
{
    global $host, $port;
    $cache = new Redis();
    $cache->connect($host, $port, PATIENCE, null, 50, PATIENCE);
    return $cache;
}

$cache = connect();

function types(): void
{
    global $cache;
    equal($cache->ping(), true);
    equal($cache->set('greeting', 'hello', ['ex' => 100]), true);
    equal($cache->get('greeting'), 'hello');
    equal($cache->get('none'), false);
    $bytes = str_repeat("\0\r\n\xff", 20_000);
    equal($cache->set('bytes', $bytes), true);
    equal($cache->get('bytes') === $bytes, true);
    equal($cache->hMSet('hash', ['a' => '1', 'b' => '2']), true);
    equal($cache->hGetAll('hash'), ['a' => '1', 'b' => '2']);
    equal($cache->rPush('list', '1', '2', '3'), 3);
    equal($cache->lRange('list', 0, -1), ['1', '2', '3']);
    equal($cache->sAdd('set', 'x'), 1);
    equal($cache->sMembers('set'), ['x']);
    equal($cache->zAdd('scores', 1, 'one', 2.5, 'two'), 2);
    equal($cache->zRange('scores', 0, -1, true), ['one' => 1.0, 'two' => 2.5]);
    $id = $cache->xAdd('stream', '*', ['f' => 'v']);
    equal($cache->xRange('stream', '-', '+'), [$id => ['f' => 'v']]);
}

function a_pipeline_answers_in_order(): void
{
    global $cache;
    $pipe = $cache->pipeline();
    $expected = [];
    foreach (range(0, 499) as $n) {
        $pipe->set("p$n", (string) $n)->get("p$n");
        array_push($expected, true, (string) $n);
    }
    equal($pipe->exec(), $expected);
}

function transactions(): void
{
    global $cache;
    equal($cache->multi()->set('{t}a', '1')->incr('{t}a')->exec(), [true, 2]);
    $cache->watch('{t}a');
    connect()->set('{t}a', '9');
    equal($cache->multi()->get('{t}a')->exec(), false);
    equal($cache->multi()->get('{t}a')->exec(), ['9']);
    $cache->multi()->get('{t}a');
    equal($cache->discard(), true);
    equal($cache->get('{t}a'), '9');
}

function scripts(): void
{
    global $cache;
    $double = 'return ARGV[1] * 2';
    equal($cache->eval($double, ['k', 21], 1), 42);
    $sha = $cache->script('load', $double);
    equal($sha, sha1($double));
    equal($cache->evalSha($sha, ['k2', 4], 1), 8);
}

function keys_are_on_every_server(): void
{
    global $cache;
    $names = array_map(fn ($n) => "m$n", range(0, 299));
    equal($cache->mSet(array_combine($names, range(0, 299))), true);
    sizes_are_spread();
    equal($cache->mGet([...$names, 'none']), [...array_map('strval', range(0, 299)), false]);
    $cache->setOption(Redis::OPT_SCAN, Redis::SCAN_RETRY);
    $found = [];
    $cursor = null;
    while ($some = $cache->scan($cursor, 'm*', 50)) {
        array_push($found, ...$some);
    }
    equal(count(array_unique($found)), 300);
    equal($cache->del($names), 300);
}

function messages_are_published(): void
{
    global $cache, $host, $port;
    $program = sprintf('$r = new Redis(); $r->connect("%s", %d); for ($n = 0; $n < 2000 && $r->publish("news", "hello") < 1; $n++) usleep(5000);', $host, $port);
    $other = meanwhile($program);
    $got = null;
    $subscriber = connect();
    try {
        $subscriber->subscribe(['news', 'other'], function ($redis, $channel, $text) use (&$got) {
            $got = [$channel, $text];
            // Until version 6 nothing else ends it.
            $redis->close();
        });
    } catch (RedisException $closed) {
    }
    equal($got, ['news', 'hello']);
    proc_close($other);
}

function blocking_pops(): void
{
    global $cache, $host, $port;
    equal($cache->blPop(['empty'], 1), []);
    $program = sprintf('$r = new Redis(); $r->connect("%s", %d); usleep(50000); $r->rPush("wait", "now");', $host, $port);
    $other = meanwhile($program);
    equal($cache->blPop(['wait'], 10), ['wait', 'now']);
    proc_close($other);
}

function errors_leave_the_connection_usable(): void
{
    global $cache;
    $cache->set('text', 'x');
    equal($cache->lPush('text', 'y'), false);
    equal(str_starts_with($cache->getLastError(), 'WRONGTYPE'), true);
    $cache->clearLastError();
    equal($cache->rawCommand('NONSENSE'), false);
    equal(str_contains($cache->getLastError(), 'unknown command'), true);
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
            $cache->clearLastError();
            $cache->get($name);
            $lost += $cache->getLastError() === null ? 0 : 1;
        } catch (RedisException) {
            $lost++;
        }
    }
    if ($servers === 1 ? $lost !== 60 : $lost === 0 || $lost === 60) {
        throw new Exception("$lost lost");
    }
    ask('start');
    eventually('all keys', function () use (&$cache, $names) {
        try {
            return array_product(array_map(fn ($name) => (int) $cache->set($name, 'after'), $names));
        } catch (RedisException) {
            // It goes on trying the connection that it lost.
            $cache = connect();
        }
    });
    equal($cache->mGet($names), array_fill(0, 60, 'after'));
}

run('phpredis', phpversion('redis'), [
    'types', 'a_pipeline_answers_in_order', 'transactions', 'scripts', 'keys_are_on_every_server',
    'messages_are_published', 'blocking_pops', 'errors_leave_the_connection_usable', 'a_server_is_lost_and_comes_back',
]);
