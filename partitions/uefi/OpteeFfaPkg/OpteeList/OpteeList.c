/** @file
  What OP-TEE offers to UEFI. From the shell:

    FS0:\> optee-list.efi

  With the option "steps" each line is one of the demonstration's: STEP uefi.optee.NAME PASS|FAIL DETAIL. With "overreach" it does
  nothing but end OP-TEE, where OP-TEE's manifest lets it (partitions/optee), and show what a program is told then.
**/

#include <Uefi.h>

#include <Library/BaseLib.h>
#include <Library/BaseMemoryLib.h>
#include <Library/OpteeLib.h>
#include <Library/PrintLib.h>
#include <Library/UefiBootServicesTableLib.h>
#include <Library/UefiLib.h>

#include <Protocol/LoadedImage.h>

#define TEE_ERROR_BAD_PARAMETERS  0xFFFF0006
#define TEE_ERROR_ITEM_NOT_FOUND  0xFFFF0008
#define TEE_ERROR_SHORT_BUFFER    0xFFFF0010

//
// Functions of the TAs
//
#define DEVICES_GET         0
#define RANDOM_GET_ENTROPY  0
#define SIMS_READ           1
#define SIMS_WRITE          2
#define OVERREACH_READ      0

/// Memory of StMM's.
#define OTHERS_MEMORY  0x0E204000

#define UUID_SIZE  16

/// A TA of OP-TEE's tests that is part of OP-TEE's image here: it keeps what it is given until its last session ends.
STATIC EFI_GUID  mSimsTa = {
  0xe6a33ed4, 0x562b, 0x463a, { 0xbb, 0x7e, 0xff, 0x5e, 0x15, 0xa4, 0x93, 0xc8 }
};

/// Nobody's.
STATIC EFI_GUID  mNoTa = {
  0x0f3a1b6e, 0x7c55, 0x4d0d, { 0x8a, 0x49, 0x62, 0xd7, 0x11, 0xe8, 0x30, 0x9c }
};

STATIC BOOLEAN  mSteps;
STATIC BOOLEAN  mFailed;

/**
  Prints a line.

  @param[in] Name    What it is about.
  @param[in] Good    Whether it is as it should be.
  @param[in] Format  What happened, as for Print.
  @param[in] ...     Its arguments.
**/
STATIC
VOID
EFIAPI
Report (
  IN CONST CHAR8   *Name,
  IN BOOLEAN       Good,
  IN CONST CHAR16  *Format,
  ...
  )
{
  VA_LIST  Arguments;
  CHAR16   Detail[160];

  VA_START (Arguments, Format);
  UnicodeVSPrint (Detail, sizeof (Detail), Format, Arguments);
  VA_END (Arguments);

  mFailed = mFailed || !Good;
  if (mSteps) {
    Print (L"\nSTEP uefi.optee.%a %a %s\n", Name, Good ? "PASS" : "FAIL", Detail);
  } else {
    Print (L"%-10a %a%s\n", Name, Good ? "" : "WRONG: ", Detail);
  }
}

/**
  Opens a session of a TA.

  @param[in]  Uuid     The TA.
  @param[out] Session  The session.
  @param[out] Return   OP-TEE's result.

  @return The library's verdict.
**/
STATIC
EFI_STATUS
Open (
  IN  EFI_GUID  *Uuid,
  OUT UINT32    *Session,
  OUT UINT32    *Return
  )
{
  EFI_STATUS              Status;
  OPTEE_OPEN_SESSION_ARG  Argument;

  ZeroMem (&Argument, sizeof (Argument));
  CopyGuid (&Argument.Uuid, Uuid);
  Status   = OpteeOpenSession (&Argument);
  *Session = Argument.Session;
  *Return  = Argument.Return;
  return Status;
}

/**
  Invokes a function with one buffer, and before it a number if Number is not NULL.

  @param[in]      Session   The session.
  @param[in]      Function  The function.
  @param[in]      Number    The number.
  @param[in]      Kind      OPTEE_MESSAGE_ATTRIBUTE_TYPE_MEMORY_...
  @param[in, out] Buffer    The buffer.
  @param[in, out] Size      Its size; then that of what is in it, or would be.
  @param[out]     Return    OP-TEE's result.

  @return The library's verdict.
**/
STATIC
EFI_STATUS
Invoke (
  IN     UINT32        Session,
  IN     UINT32        Function,
  IN     CONST UINT32  *Number OPTIONAL,
  IN     UINT64        Kind,
  IN OUT VOID          *Buffer,
  IN OUT UINTN         *Size,
  OUT    UINT32        *Return
  )
{
  EFI_STATUS                 Status;
  OPTEE_INVOKE_FUNCTION_ARG  Argument;
  OPTEE_MESSAGE_PARAM        *Memory;

  ZeroMem (&Argument, sizeof (Argument));
  Argument.Session  = Session;
  Argument.Function = Function;
  Memory            = Argument.Params;
  if (Number != NULL) {
    Memory->Attribute     = OPTEE_MESSAGE_ATTRIBUTE_TYPE_VALUE_INPUT;
    Memory->Union.Value.A = *Number;
    Memory++;
  }

  Memory->Attribute                  = Kind;
  Memory->Union.Memory.BufferAddress = (UINTN)Buffer;
  Memory->Union.Memory.Size          = *Size;
  Status                             = OpteeInvokeFunction (&Argument);
  *Size                              = (UINTN)Memory->Union.Memory.Size;
  *Return                            = Argument.Return;
  return Status;
}

/**
  Lists the TAs that offer themselves to drivers. A buffer that is too small is told how large it has to be.
**/
STATIC
VOID
ListDevices (
  VOID
  )
{
  EFI_STATUS  Status;
  UINT32      Session;
  UINT32      Return;
  UINT8       Uuids[16 * UUID_SIZE];
  UINT8       *Uuid;
  UINTN       Size;
  UINTN       Wanted;

  Status = Open (&gOpteeDevicesPtaGuid, &Session, &Return);
  if (EFI_ERROR (Status) || (Return != OPTEE_SUCCESS)) {
    Report ("devices", FALSE, L"no session of the pseudo TA for devices: %r, result %x", Status, Return);
    return;
  }

  Wanted = UUID_SIZE - 1;
  Status = Invoke (Session, DEVICES_GET, NULL, OPTEE_MESSAGE_ATTRIBUTE_TYPE_MEMORY_OUTPUT, Uuids, &Wanted, &Return);
  Report (
    "too-small",
    !EFI_ERROR (Status) && (Return == TEE_ERROR_SHORT_BUFFER) && (Wanted >= UUID_SIZE),
    L"a buffer of %d bytes: %r, result %x, %d bytes wanted",
    UUID_SIZE - 1,
    Status,
    Return,
    Wanted
    );

  Size   = sizeof (Uuids);
  Status = Invoke (Session, DEVICES_GET, NULL, OPTEE_MESSAGE_ATTRIBUTE_TYPE_MEMORY_OUTPUT, Uuids, &Size, &Return);
  if (EFI_ERROR (Status) || (Return != OPTEE_SUCCESS) || (Size != Wanted)) {
    Report ("devices", FALSE, L"list of devices: %r, result %x, %d bytes", Status, Return, Size);
  } else {
    Report ("devices", TRUE, L"%d TAs offer themselves to drivers", Size / UUID_SIZE);
    for (Uuid = Uuids; Uuid < Uuids + Size; Uuid += UUID_SIZE) {
      Print (
        L"           %02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x\n",
        Uuid[0], Uuid[1], Uuid[2], Uuid[3], Uuid[4], Uuid[5], Uuid[6], Uuid[7],
        Uuid[8], Uuid[9], Uuid[10], Uuid[11], Uuid[12], Uuid[13], Uuid[14], Uuid[15]
        );
    }
  }

  OpteeCloseSession (Session);
}

/**
  Gets two random numbers. Then what is told to a program whose buffer is nowhere, is too large, or whose session is closed.
**/
STATIC
VOID
GetRandom (
  VOID
  )
{
  EFI_STATUS  Status;
  UINT32      Session;
  UINT32      Return;
  UINT64      Numbers[2];
  UINTN       Index;
  UINTN       Size;

  Status = Open (&gOpteeRandomPtaGuid, &Session, &Return);
  for (Index = 0; (Index < 2) && !EFI_ERROR (Status) && (Return == OPTEE_SUCCESS); Index++) {
    Size   = sizeof (Numbers[Index]);
    Status = Invoke (
               Session,
               RANDOM_GET_ENTROPY,
               NULL,
               OPTEE_MESSAGE_ATTRIBUTE_TYPE_MEMORY_INOUT,
               &Numbers[Index],
               &Size,
               &Return
               );
  }

  if (EFI_ERROR (Status) || (Return != OPTEE_SUCCESS)) {
    Report ("random", FALSE, L"no random number: %r, result %x", Status, Return);
    return;
  }

  Report ("random", Numbers[0] != Numbers[1], L"%016lx, then %016lx", Numbers[0], Numbers[1]);

  Size   = sizeof (Numbers);
  Status = Invoke (Session, RANDOM_GET_ENTROPY, NULL, OPTEE_MESSAGE_ATTRIBUTE_TYPE_MEMORY_INOUT, NULL, &Size, &Return);
  Report ("misplaced", Status == EFI_INVALID_PARAMETER, L"a buffer at address 0: %r", Status);

  Size   = SIZE_1MB;
  Status = Invoke (Session, RANDOM_GET_ENTROPY, NULL, OPTEE_MESSAGE_ATTRIBUTE_TYPE_MEMORY_INOUT, Numbers, &Size, &Return);
  Report ("too-large", Status == EFI_OUT_OF_RESOURCES, L"a buffer of 1 MiB: %r", Status);

  OpteeCloseSession (Session);
  Size   = sizeof (Numbers);
  Status = Invoke (Session, RANDOM_GET_ENTROPY, NULL, OPTEE_MESSAGE_ATTRIBUTE_TYPE_MEMORY_INOUT, Numbers, &Size, &Return);
  Report (
    "closed",
    !EFI_ERROR (Status) && (Return == TEE_ERROR_BAD_PARAMETERS),
    L"a closed session: %r, result %x",
    Status,
    Return
    );
}

/**
  Gives a TA something to keep, and asks for it.
**/
STATIC
VOID
UseTa (
  VOID
  )
{
  EFI_STATUS    Status;
  UINT32        Session;
  UINT32        Return;
  UINT8         Kept[] = "kept by a trusted application";
  UINT8         Found[sizeof (Kept)];
  UINTN         Size;
  CONST UINT32  Place = 1;

  Status = Open (&mSimsTa, &Session, &Return);
  if (EFI_ERROR (Status) || (Return != OPTEE_SUCCESS)) {
    Report ("ta", FALSE, L"%g: no session: %r, result %x", &mSimsTa, Status, Return);
    return;
  }

  ZeroMem (Found, sizeof (Found));
  Size   = sizeof (Kept);
  Status = Invoke (Session, SIMS_WRITE, &Place, OPTEE_MESSAGE_ATTRIBUTE_TYPE_MEMORY_INPUT, Kept, &Size, &Return);
  if (!EFI_ERROR (Status) && (Return == OPTEE_SUCCESS)) {
    Size   = sizeof (Found);
    Status = Invoke (Session, SIMS_READ, &Place, OPTEE_MESSAGE_ATTRIBUTE_TYPE_MEMORY_OUTPUT, Found, &Size, &Return);
  }

  if (EFI_ERROR (Status) || (Return != OPTEE_SUCCESS) || (CompareMem (Found, Kept, sizeof (Kept)) != 0)) {
    Report ("ta", FALSE, L"%g: %r, result %x", &mSimsTa, Status, Return);
  } else {
    Report ("ta", TRUE, L"%g answers: %a", &mSimsTa, Found);
  }

  OpteeCloseSession (Session);
}

/**
  Asks for a TA that is not there: OP-TEE looks for it in the normal world, too, and is told that firmware has none.
**/
STATIC
VOID
AskForNobody (
  VOID
  )
{
  EFI_STATUS  Status;
  UINT32      Session;
  UINT32      Return;

  Status = Open (&mNoTa, &Session, &Return);
  Report (
    "wrong-uuid",
    !EFI_ERROR (Status) && (Return == TEE_ERROR_ITEM_NOT_FOUND),
    L"%g: %r, result %x",
    &mNoTa,
    Status,
    Return
    );
}

/**
  Has OP-TEE read another partition's memory, for which it is ended. This call and all later ones must end, too.
**/
STATIC
VOID
EndOptee (
  VOID
  )
{
  EFI_STATUS                 Status;
  UINT32                     Session;
  UINT32                     Return;
  OPTEE_INVOKE_FUNCTION_ARG  Argument;

  Status = Open (&gOpteeOverreachPtaGuid, &Session, &Return);
  if (EFI_ERROR (Status) || (Return != OPTEE_SUCCESS)) {
    Report ("ends", FALSE, L"no session: %r, result %x; OP-TEE's manifest does not allow it", Status, Return);
    return;
  }

  ZeroMem (&Argument, sizeof (Argument));
  Argument.Session                 = Session;
  Argument.Function                = OVERREACH_READ;
  Argument.Params[0].Attribute     = OPTEE_MESSAGE_ATTRIBUTE_TYPE_VALUE_INPUT;
  Argument.Params[0].Union.Value.A = OTHERS_MEMORY;
  Argument.Params[1].Attribute     = OPTEE_MESSAGE_ATTRIBUTE_TYPE_VALUE_OUTPUT;
  Status                           = OpteeInvokeFunction (&Argument);
  Report ("ends", Status == EFI_ABORTED, L"a call in which OP-TEE is ended: %r, result %x", Status, Argument.Return);

  Status = Open (&gOpteeRandomPtaGuid, &Session, &Return);
  Report ("ended", Status == EFI_ABORTED, L"the next call: %r, result %x", Status, Return);
}

/**
  Why OP-TEE cannot be used, in words.

  @param[in] Status  What OpteeInit said.
**/
STATIC
CONST CHAR16 *
Reason (
  IN EFI_STATUS  Status
  )
{
  switch (Status) {
    case EFI_UNSUPPORTED:
      return L"there is no FF-A: TF-A needs SPD=spmd and an SPMC";
    case EFI_NOT_FOUND:
      return L"no partition is OP-TEE: the secure console says which came up";
    case EFI_INCOMPATIBLE_VERSION:
      return L"this program speaks FF-A 1.2 and version 1 of OP-TEE's messages, the other side does not";
    case EFI_ABORTED:
      return L"OP-TEE has ended: the secure console says why";
    case EFI_TIMEOUT:
      return L"OP-TEE has served others for 10 seconds";
    case EFI_OUT_OF_RESOURCES:
      return L"no memory, or the SPMC has no room for one more memory transaction";
    default:
      return L"OP-TEE was not reached";
  }
}

/**
  The program.

  @param[in] ImageHandle  This image.
  @param[in] SystemTable  Not used.

  @retval EFI_SUCCESS       All was as it should be.
  @retval EFI_DEVICE_ERROR  Something was not.
  @return Otherwise why there is no OP-TEE.
**/
EFI_STATUS
EFIAPI
UefiMain (
  IN EFI_HANDLE        ImageHandle,
  IN EFI_SYSTEM_TABLE  *SystemTable
  )
{
  EFI_STATUS                 Status;
  EFI_LOADED_IMAGE_PROTOCOL  *Image;
  CONST CHAR16               *Options;

  Options = L"";
  Status  = gBS->HandleProtocol (ImageHandle, &gEfiLoadedImageProtocolGuid, (VOID **)&Image);
  if (!EFI_ERROR (Status) && (Image->LoadOptions != NULL)) {
    Options = Image->LoadOptions;
  }

  mSteps = StrStr (Options, L"steps") != NULL;

  Status = OpteeInit ();
  if (EFI_ERROR (Status)) {
    Report ("absent", FALSE, L"%s (%r)", Reason (Status), Status);
    return Status;
  }

  if (StrStr (Options, L"overreach") != NULL) {
    EndOptee ();
  } else {
    ListDevices ();
    GetRandom ();
    UseTa ();
    AskForNobody ();
  }

  return mFailed ? EFI_DEVICE_ERROR : EFI_SUCCESS;
}
